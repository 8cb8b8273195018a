"""Evaluation trace: why a rule fired, or did not fire, for a device at a time, step by step.

Nothing is recorded in advance. The stored points are evaluated again, by the version of the rule in force at that time,
and alerts, silences and deliveries are read from their tables. So a trace exists for every time with stored points,
also if no alert was opened.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from django.db.models import Q, QuerySet

from alerts import silences
from alerts.conditions.alert_lifecycle import NEVER
from alerts.conditions.spec import SECOND, RuleSpec, read_spec
from alerts.conditions.thresholds import Signal
from alerts.history.missing_alert import TraceStep, explain_missing_alert, format_time
from alerts.history.replay import plan_replay, replay
from alerts.models import Alert, Notice, Rule, RuleVersion
from alerts.rules.scope import RuleScope
from metrics.models import Device
from metrics.storage.units import to_datetime, to_microseconds
from metrics.value_text import number_text
from rest.caller import Caller
from rest.errors import InvalidFields

MAX_VALUES = 100  # of the evaluation window
MAX_NOTICES = 20
MIN_LOOKBACK = timedelta(hours=1)  # in which an alert may have begun


@dataclass(frozen=True, slots=True)
class EvaluationTrace:
    """The steps in the order of evaluation, and the result.

    values  of the evaluation window, newest last: (time, value, whether it is a breach)
    """

    verdict: str
    fired: bool
    steps: list[TraceStep]
    values: list[tuple[datetime, float | None, bool]]
    alert: Alert | None = None


def trace_evaluation(
    rule: Rule, device: Device, at: datetime, caller: Caller, alert: Alert | None = None
) -> EvaluationTrace:
    """Trace a rule for a device visible to the caller. Raises InvalidField if there are too many points.

    alert  the alert to explain; by default the one that was open at that time
    """
    alerts = Alert.objects.filter(rule=rule, device=device, triggered_at__lte=at).order_by("-triggered_at", "-pk")
    alert = alert or alerts.filter(Q(resolved_at=None) | Q(resolved_at__gte=at)).first()
    return (
        _trace_missing(rule, device, at, caller, alerts)
        if alert is None
        else _trace_alert(rule, device, alert, at, caller)
    )


def _trace_alert(rule: Rule, device: Device, alert: Alert, at: datetime, caller: Caller) -> EvaluationTrace:
    """Trace an alert from its record of the opening: stored points and groups may have changed since."""
    versions = RuleVersion.objects.filter(rule=rule, version=alert.rule_version)
    version = versions.first() or RuleVersion.objects.filter(rule=rule).order_by("version").first()
    assert version is not None
    scope = _check_scope(version.document, device, caller)
    if scope.state == "no":
        scope = TraceStep(scope.label, "note", "the device was in the scope of the rule, and is no longer")
    steps = [
        TraceStep("Rule", "yes", f"version {version.version}, in force since {format_time(version.at)}"),
        scope,
        TraceStep("Value", "yes", f"{alert.message}, at {format_time(alert.triggered_at)}"),
    ]
    if needed := alert.evidence.get("trigger_count"):
        count = f"{needed} of {needed} breaches within {alert.evidence['window_seconds']} s"
        steps.append(TraceStep("Trigger count", "yes", count))
    values = [
        (datetime.fromisoformat(entry["timestamp"]), _compared_number(entry["value"], alert.threshold), entry["breach"])
        for entry in alert.evidence.get("values", ())
    ]
    return EvaluationTrace(
        f"It fired: {alert.message}.", True, steps + _list_notifications(alert, at), values[-MAX_VALUES:], alert
    )


def _trace_missing(
    rule: Rule, device: Device, at: datetime, caller: Caller, alerts: QuerySet[Alert]
) -> EvaluationTrace:
    """Trace a rule without an open alert; at least one step prevents it."""
    document, version, since = _version_at(rule, at)
    steps = [_check_enabled(rule, document, version, since)]
    try:
        spec = read_spec(document)
    except InvalidFields as error:
        invalid = TraceStep("Rule", "no", str(error))
        return EvaluationTrace(f"It was not evaluated: {error}.", False, [*steps, invalid], [])
    scope = _check_scope(document, device, caller)
    steps.append(scope)
    previous = alerts.filter(retroactive=False).first()
    signal = _evaluate(spec, device, at, caller) if scope.state == "yes" else None
    steps += _check_values(spec, signal, previous)
    steps += _check_previous_alert(spec, previous, at if signal is None or not len(signal) else _last_time(signal))
    if signal is not None and all(step.state != "no" for step in steps):
        steps.append(explain_missing_alert(device, rule, since, _last_time(signal)))
    reason = next(step for step in steps if step.state == "no")
    verdict = f"It did not fire: {reason.label.lower()}: {reason.detail}."
    return EvaluationTrace(verdict, False, steps, _window_values(spec, signal, at))


def _compared_number(value: Any, threshold: Any) -> float | None:
    """Return a recorded value as the evaluated number: whether a text equals the threshold, 1 for true."""
    return None if value is None else float(value == threshold if isinstance(value, str) else value)


def _version_at(rule: Rule, at: datetime) -> tuple[dict[str, Any], int, datetime | None]:
    """Return the rule's document at a time, its version, and since when it was in force.

    Before the rule was created: its first version, with None for the time.
    """
    versions = RuleVersion.objects.filter(rule=rule)
    version = versions.filter(at__lte=at).order_by("-version").first() or versions.order_by("version").first()
    assert version is not None
    return version.document, version.version, version.at if version.at <= at else None


def _check_enabled(rule: Rule, document: dict[str, Any], version: int, since: datetime | None) -> TraceStep:
    if since is None:
        return TraceStep("Rule", "no", f"“{rule.name}” did not exist yet; the next steps use its version {version}")
    if not document["enabled"]:
        return TraceStep("Rule", "no", f"version {version} was disabled")
    if rule.suspended:
        return TraceStep("Rule", "no", f"suspended because of an error: {rule.suspended}")
    return TraceStep("Rule", "yes", f"version {version}, in force since {format_time(since)}")


def _check_scope(document: dict[str, Any], device: Device, caller: Caller) -> TraceStep:
    ids, groups = document["device_ids"], document["device_groups"]
    if not ids and not groups:
        return TraceStep("Device", "yes", "the rule applies to all devices")
    if device.device_id in ids:
        return TraceStep("Device", "yes", "the rule names the device")
    shared = set(device.groups.values_list("name", flat=True)) & set(groups)
    if shared:
        groups = ", ".join(sorted(caller.narrowed(sorted(shared)) or ()))
        return TraceStep("Device", "yes", f"the device is in {groups or 'a group of the rule'}")
    return TraceStep("Device", "no", "the rule names neither the device nor one of its groups")


def _evaluate(spec: RuleSpec, device: Device, at: datetime, caller: Caller) -> Signal | None:
    """Return the signal of the stored points up to a time."""
    lookback = max(timedelta(microseconds=2 * spec.lookback + spec.window), MIN_LOOKBACK)
    plan = plan_replay(spec, RuleScope(caller, [device.device_id]), at - lookback, at + timedelta(microseconds=1))
    return next((replayed.signal for replayed in replay(plan)), None)


def _check_values(spec: RuleSpec, signal: Signal | None, previous: Alert | None) -> list[TraceStep]:
    if signal is None or not len(signal):
        return [TraceStep("Values", "no", "no values to evaluate are stored up to that time")]
    shown = _describe_value(spec, float(signal.values[-1]))
    value_step = TraceStep(
        "Value",
        "yes" if signal.breach[-1] else "no",
        f"{shown} at {format_time(_last_time(signal))}: {_describe_last(signal)}",
    )
    ended = NEVER if previous is None or previous.resolved_at is None else to_microseconds(previous.resolved_at)
    window_start = int(signal.times[-1]) - spec.window
    breaches = np.count_nonzero(signal.breach & (signal.times >= window_start) & (signal.times > ended))
    count = f"{breaches} of {spec.trigger_count} breaches within {spec.window // SECOND} s"
    if np.count_nonzero(signal.breach & (signal.times >= window_start)) > breaches:
        count += "; those before the end of the previous alert do not count"
    return [value_step, TraceStep("Trigger count", "yes" if breaches >= spec.trigger_count else "no", count)]


def _describe_value(spec: RuleSpec, value: float) -> str:
    """Return an evaluated value; of a text, only whether it equals the threshold is evaluated."""
    thresholds = [condition.threshold for condition in spec.conditions if condition.threshold is not None]
    if np.isnan(value):
        return "undefined"
    if len(thresholds) == 1 and isinstance(thresholds[0], str):
        return thresholds[0] if value else f"not {thresholds[0]}"
    if len(thresholds) == 1 and isinstance(thresholds[0], bool):
        return "true" if value else "false"
    return number_text(value, *(threshold for threshold in thresholds if not isinstance(threshold, str)))


def _describe_last(signal: Signal) -> str:
    if signal.breach[-1]:
        return "the condition is met"
    return "recovered" if signal.recovered[-1] else "the condition is not met, but the value is not recovered either"


def _check_previous_alert(spec: RuleSpec, previous: Alert | None, last: datetime) -> list[TraceStep]:
    if previous is None or previous.resolved_at is None:
        return [TraceStep("Previous alert", "note", "none")]
    by = f" by {previous.resolved_by}" if previous.resolved_by else ""
    resolved = f"{previous.alert_id}, resolved{by} at {format_time(previous.resolved_at)}"
    steps = [TraceStep("Previous alert", "note", resolved)]
    cooldown_end = previous.triggered_at + timedelta(microseconds=spec.cooldown)
    if spec.cooldown and cooldown_end > last:
        steps.append(TraceStep("Cooldown", "no", f"no further alert until {format_time(cooldown_end)}"))
    return steps


def _list_notifications(alert: Alert, at: datetime) -> list[TraceStep]:
    """Return the silences and notifications of an alert, or why there are none."""
    if alert.shadow or alert.retroactive:
        reason = "the rule is a shadow rule" if alert.shadow else "the alert is retroactive (late data)"
        return [TraceStep("Notification", "no", f"not sent: {reason}")]
    steps = [TraceStep("Silence", "no", reason) for reason in silences.find_covering([alert.pk], at).values()]
    for notice in Notice.objects.filter(alert=alert).select_related("delivery").order_by("pk")[:MAX_NOTICES]:
        detail = f"{notice.kind} to {notice.channel_name}: {notice.status}"
        if notice.delivery and notice.delivery.answer_status:
            detail += f", response status {notice.delivery.answer_status}"
        if notice.reason:
            detail += f" ({notice.reason})"
        state = "yes" if notice.status == "sent" else "note" if notice.status == "waiting" else "no"
        steps.append(TraceStep("Notification", state, detail))
    return steps or [TraceStep("Notification", "no", "the rule has no channel and matches no route")]


def _window_values(spec: RuleSpec, signal: Signal | None, at: datetime) -> list[tuple[datetime, float | None, bool]]:
    if signal is None:
        return []
    window_start = int(signal.times.searchsorted(to_microseconds(at) - spec.window, "right"))
    first = max(window_start, len(signal) - MAX_VALUES)
    points = zip(
        signal.times[first:].tolist(), signal.values[first:].tolist(), signal.breach[first:].tolist(), strict=True
    )
    return [(to_datetime(time), None if value != value else value, breach) for time, value, breach in points]


def _last_time(signal: Signal) -> datetime:
    return to_datetime(int(signal.times[-1]))
