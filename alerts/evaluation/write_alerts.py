"""Open and resolve the alerts that evaluation results ask for, in the transaction that moves the evaluation cursor."""

from collections.abc import Mapping, Sequence

from alerts import alert_actions
from alerts.conditions.thresholds import Signal
from alerts.evaluation.absence import AbsentDevice
from alerts.evaluation.alert_text import (
    absence_message,
    alert_message,
    compared_value,
    threshold_of,
    trigger_evidence,
)
from alerts.evaluation.anomaly_results import AnomalySignal
from alerts.evaluation.rule_series_state import EvaluationResult, RuleSeriesKey, RuleSeriesState, WatchedRule, numeric
from alerts.evaluation.triggering_points import read_triggering_points
from alerts.models import OPEN_STATUSES, Alert, Mode, Resolution, Rule
from alerts.rules.message_template import render
from metrics.models import Device
from metrics.storage.series_registry import current_registry
from metrics.storage.units import to_datetime

_TEMPLATE_FIELDS = ("rule_name", "description", "runbook_url")  # of an alert, copied from its rule


def write_transitions(results: Sequence[EvaluationResult]) -> int:
    """Open and resolve alerts: the first transition of every result, then the second, … Returns the number opened."""
    _lock([result.state for result in results if result.transitions])
    opened, step = 0, 0
    while current := [result for result in results if len(result.transitions) > step]:
        opened += _open([result for result in current if result.transitions[step].opened], step)
        _resolve_recovered([result for result in current if not result.transitions[step].opened], step)
        step += 1
    return opened


def _lock(states: Sequence[RuleSeriesState]) -> None:
    """Lock the rules, then the open alerts, each by primary key: the order in which every other writer locks them."""
    rules = {state.key[0] for state in states}
    alerts = [state.alert for state in states if state.alert is not None]
    list(Rule.objects.filter(pk__in=rules).order_by("pk").select_for_update(no_key=True).values_list("pk"))
    list(Alert.objects.filter(pk__in=alerts).order_by("pk").select_for_update(no_key=True).values_list("pk"))


def _open(results: Sequence[EvaluationResult], step: int) -> int:
    """Open an alert for each result. Returns how many were not open already."""
    if not results:
        return 0
    openings = [
        (state, signal, transitions[step].position) for state, signal, transitions, _ in results if signal is not None
    ]
    alerts = build_alerts(openings)
    opened = {alert.alert_id: alert for alert in alert_actions.open_alerts(render_templates(alerts))}
    for result, alert in zip(results, alerts, strict=True):
        new = opened.get(alert.alert_id)
        result.state.alert = new.pk if new is not None else _find_open_alert(result.state)
    return len(opened)


def _resolve_recovered(results: Sequence[EvaluationResult], step: int) -> None:
    times = {}
    for state, signal, transitions, _ in results:
        assert signal is not None
        if state.alert is not None:
            times[state.alert] = to_datetime(int(signal.times[transitions[step].position]))
        state.alert = None
    if times:
        alert_actions.resolve(
            Alert.objects.filter(pk__in=times), Resolution.RECOVERED, alert_actions.EVALUATOR, at=times
        )


def _find_open_alert(state: RuleSeriesState) -> int | None:
    rule, device, metric = state.key
    alerts = Alert.objects.filter(rule_id=rule, device_id=device, metric_name=metric, status__in=OPEN_STATUSES)
    return alerts.values_list("pk", flat=True).first()


def write_absence_alerts(absent: Sequence[AbsentDevice]) -> list[Alert]:
    """Open alerts for devices without data."""
    return (
        alert_actions.open_alerts(render_templates([_build_absence_alert(absence) for absence in absent]))
        if absent
        else []
    )


def build_alerts(openings: Sequence[tuple[RuleSeriesState, Signal, int]]) -> list[Alert]:
    """Return the alert of each opening (state, signal, position), and note its breach in the state."""
    points = read_triggering_points(openings)
    return [
        _build_value_alert(state, signal, position, *texts_and_unit)
        for (state, signal, position), texts_and_unit in zip(openings, points, strict=True)
    ]


def _build_value_alert(
    state: RuleSeriesState, signal: Signal, position: int, texts: Mapping[int, str], unit: str
) -> Alert:
    value = float(signal.measured[position] if isinstance(signal, AnomalySignal) else signal.values[position])
    time = int(signal.times[position])
    shown = compared_value(state, value, texts.get(time))
    state.last_breach, state.worst = time, numeric(shown)
    alert = _build_alert(state.watched, state.key, state.device_id, time)
    alert.series = next(iter(state.inputs.values())).series if len(state.inputs) == 1 else None
    alert.value = alert.worst_value = shown
    alert.message = alert_message(state, signal, position, shown, unit)
    alert.evidence = trigger_evidence(state, signal, position, texts, unit)
    return alert


def _build_absence_alert(absent: AbsentDevice) -> Alert:
    alert = _build_alert(absent.watched, absent.key, absent.device_id, absent.deadline)
    alert.message = absence_message(absent)
    alert.evidence = {
        "last_heard": to_datetime(absent.last_seen).isoformat() if absent.last_seen else None,
        "expected_seconds": absent.expected / 1_000_000,
    }
    return alert


def _build_alert(watched: WatchedRule, key: RuleSeriesKey, device_id: str, at: int) -> Alert:
    rule = watched.rule
    return Alert(
        rule=rule,
        rule_name=rule.name,
        rule_version=rule.version,
        device_id=key[1],
        device_name=device_id,
        metric_name=key[2],
        level=rule.level,
        shadow=rule.mode == Mode.SHADOW,
        threshold=threshold_of(watched.spec, rule),
        description=rule.description,
        runbook_url=rule.runbook_url,
        triggered_at=to_datetime(at),
        last_breach_at=to_datetime(at),
    )


def render_templates(alerts: list[Alert]) -> list[Alert]:
    """Replace the placeholders in the texts that alerts have from their rules. Returns the same list."""
    templated = [alert for alert in alerts if any("{" in getattr(alert, name) for name in _TEMPLATE_FIELDS)]
    devices = Device.objects.prefetch_related("groups").in_bulk({alert.device_id for alert in templated})
    for alert in templated:
        device = devices.get(alert.device_id)
        values = {
            "device": alert.device_name,
            "device_name": str(device or alert.device_name),
            "group": ", ".join(group.name for group in device.groups.all()) if device else "",
            "metric": alert.metric_name,
            "value": alert.value,
            "threshold": alert.threshold,
            "unit": alert.evidence.get("unit") or current_registry().unit(alert.metric_name),
            "level": alert.level,
            "rule": alert.rule_name,
            "time": f"{alert.triggered_at:%Y-%m-%d %H:%M:%S} UTC",
        }
        for name in _TEMPLATE_FIELDS:
            length = Alert._meta.get_field(name).max_length  # type: ignore[union-attr]  # a column of text
            setattr(alert, name, render(getattr(alert, name), values, is_url=name == "runbook_url")[:length])
    return alerts
