"""What evaluation found, into the database: alerts raised and resolved, in the transaction that moves the cursor."""

from collections.abc import Sequence

from alerts import alert_actions
from alerts.conditions.thresholds import Signal
from alerts.evaluation.absence import Silent
from alerts.evaluation.alert_text import evidence, message, silence_message, threshold_of
from alerts.evaluation.anomaly_results import Detected
from alerts.evaluation.rule_series_state import Key, Outcome, Subject, Watched
from alerts.models import OPEN_STATUSES, Alert, Mode, Resolution, Rule
from alerts.rules.message_template import render
from metrics.models import Device
from metrics.storage.series_registry import current_registry
from metrics.storage.units import to_datetime

_TEXTS = ("rule_name", "description", "runbook_url")  # of an alert, as its rule has them


def write_turns(outcomes: Sequence[Outcome]) -> int:
    """Raise and resolve, turn after turn of each subject in order; returns how many alerts were raised."""
    _hold([one.subject for one in outcomes if one.turns])
    raised, at = 0, 0
    while some := [one for one in outcomes if len(one.turns) > at]:
        new = {
            id(one): alert_of(one.subject, one.signal, one.turns[at].at)
            for one in some
            if one.signal is not None and one.turns[at].raised
        }
        if new:
            made = {alert.alert_id: alert for alert in alert_actions.open_alerts(filled(list(new.values())))}
            raised += len(made)
            for one in some:
                if id(one) in new:
                    alert = made.get(new[id(one)].alert_id)
                    one.subject.alert = alert.pk if alert is not None else _open_alert(one.subject)
        _recover(
            [
                (one.subject, int(one.signal.times[one.turns[at].at]))
                for one in some
                if one.signal and id(one) not in new
            ]
        )
        at += 1
    return raised


def _hold(subjects: Sequence[Subject]) -> None:
    """Lock their rules, then their open alerts, each in order, as whoever else locks several: turns are in none."""
    rules = {subject.key[0] for subject in subjects}
    alerts = [subject.alert for subject in subjects if subject.alert is not None]
    list(Rule.objects.filter(pk__in=rules).order_by("pk").select_for_update(no_key=True).values_list("pk"))
    list(Alert.objects.filter(pk__in=alerts).order_by("pk").select_for_update(no_key=True).values_list("pk"))


def write_silent(absent: Sequence[Silent]) -> list[Alert]:
    """Raise alerts of devices that are not heard of."""
    return alert_actions.open_alerts(filled([_silence(one) for one in absent])) if absent else []


def _recover(well: Sequence[tuple[Subject, int]]) -> None:
    times = {subject.alert: to_datetime(time) for subject, time in well if subject.alert is not None}
    if times:
        alert_actions.resolve(
            Alert.objects.filter(pk__in=times), Resolution.RECOVERED, alert_actions.EVALUATOR, at=times
        )
    for subject, _ in well:
        subject.alert = None


def _open_alert(subject: Subject) -> int | None:
    """The alert that was open before this one was to be raised."""
    rule, device, metric = subject.key
    found = Alert.objects.filter(rule_id=rule, device_id=device, metric_name=metric, status__in=OPEN_STATUSES)
    return found.values_list("pk", flat=True).first()


def alert_of(subject: Subject, signal: Signal, at: int) -> Alert:
    """The alert of a subject that is raised by the point at a place of a signal."""
    value = float(signal.measured[at] if isinstance(signal, Detected) else signal.values[at])
    shown = None if value != value else value
    subject.breached, subject.worst = int(signal.times[at]), shown
    alert = _blank(subject.watched, subject.key, subject.device_id, int(signal.times[at]))
    alert.series = next(iter(subject.inputs.values())).series if len(subject.inputs) == 1 else None
    alert.value = alert.worst_value = shown
    alert.message = message(subject, signal, at)
    alert.evidence = evidence(subject, signal, at)
    return alert


def _silence(one: Silent) -> Alert:
    alert = _blank(one.watched, one.key, one.device_id, one.deadline)
    alert.message = silence_message(one)
    alert.evidence = {
        "last_heard": to_datetime(one.heard).isoformat() if one.heard else None,
        "expected_seconds": one.expected / 1_000_000,
    }
    return alert


def _blank(watched: Watched, key: Key, device_id: str, at: int) -> Alert:
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


def filled(alerts: list[Alert]) -> list[Alert]:
    """The same alerts, with the names in braces in the texts of their rules filled in."""
    some = [alert for alert in alerts if any("{" in getattr(alert, name) for name in _TEXTS)]
    devices = Device.objects.prefetch_related("groups").in_bulk({alert.device_id for alert in some})
    for alert in some:
        device = devices.get(alert.device_id)
        fields = {
            "device": alert.device_name,
            "device_name": str(device or alert.device_name),
            "group": ", ".join(group.name for group in device.groups.all()) if device else "",
            "metric": alert.metric_name,
            "value": alert.value,
            "threshold": alert.threshold,
            "unit": current_registry().unit(alert.metric_name),
            "level": alert.level,
            "rule": alert.rule_name,
            "time": f"{alert.triggered_at:%Y-%m-%d %H:%M:%S} UTC",
        }
        for name in _TEXTS:
            length = Alert._meta.get_field(name).max_length  # type: ignore[union-attr]  # a column of text
            setattr(alert, name, render(getattr(alert, name), fields)[:length])
    return alerts
