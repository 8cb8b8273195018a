"""Evaluation trace: why a rule fired, or did not fire, for a device at a time, step by step.

Nothing is recorded in advance. The stored points are evaluated again, by the version of the rule in force at that time,
and alerts, silences and deliveries are read from their tables. So a trace exists for every time with stored points,
also if no alert was opened.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from alerts import silences
from alerts.conditions.spec import SECOND, RuleSpec, read_spec
from alerts.conditions.thresholds import Signal
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
class TraceStep:
    """One step of evaluation.

    state   yes: a reason for an alert; no: a reason against one; note: no influence
    """

    label: str
    state: str
    detail: str


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


def trace_evaluation(rule: Rule, device: Device, at: datetime, caller: Caller) -> EvaluationTrace:
    """Trace a rule for a device visible to the caller. Raises InvalidField if there are too many points."""
    document, version, since = _version_at(rule, at)
    steps = [_check_enabled(rule, document, version, since)]
    try:
        spec = read_spec(document)
    except InvalidFields as error:
        invalid = TraceStep("Rule", "no", str(error))
        return EvaluationTrace(f"It was not evaluated: {error}.", False, [*steps, invalid], [])
    alerts = Alert.objects.filter(rule=rule, device=device, triggered_at__lte=at).order_by("-triggered_at")
    current, previous = _current_and_previous(alerts[:2], at)
    scope = _check_scope(document, device, caller)
    steps.append(scope)
    signal = _evaluate(spec, device, at, caller) if scope.state == "yes" else None
    steps += _check_values(spec, signal, at)
    steps += _check_previous_alert(spec, previous, at)
    steps += _list_notifications(current, at)
    return EvaluationTrace(
        _verdict(steps, current), current is not None, steps, _window_values(spec, signal, at), current
    )


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
    return TraceStep("Rule", "yes", f"version {version}, in force since {_format_time(since)}")


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
    return next((signal for _, signal, _ in replay(plan)), None)


def _check_values(spec: RuleSpec, signal: Signal | None, at: datetime) -> list[TraceStep]:
    if signal is None or not len(signal):
        return [TraceStep("Values", "no", "no values to evaluate are stored up to that time")]
    now = to_microseconds(at)
    time, value = int(signal.times[-1]), float(signal.values[-1])
    shown = _describe_value(spec, value)
    value_step = TraceStep(
        "Value",
        "yes" if signal.breach[-1] else "no",
        f"{shown} at {_format_time(to_datetime(time))}: {_describe_last(signal)}",
    )
    breaches = np.count_nonzero(signal.breach & (signal.times > now - spec.window))
    count = f"{breaches} of {spec.trigger_count} breaches within {spec.window // SECOND} s"
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


def _current_and_previous(newest: Iterable[Alert], at: datetime) -> tuple[Alert | None, Alert | None]:
    """Return the alert that was open at a time, and the one before it."""
    alerts = list(newest)
    if alerts and (alerts[0].resolved_at is None or alerts[0].resolved_at >= at):
        return alerts[0], alerts[1] if len(alerts) > 1 else None
    return None, alerts[0] if alerts else None


def _check_previous_alert(spec: RuleSpec, previous: Alert | None, at: datetime) -> list[TraceStep]:
    if previous is None or previous.resolved_at is None:
        return [TraceStep("Previous alert", "note", "none")]
    resolved = f"{previous.alert_id}, resolved at {_format_time(previous.resolved_at)}"
    steps = [TraceStep("Previous alert", "note", resolved)]
    cooldown_end = previous.triggered_at + timedelta(microseconds=spec.cooldown)
    if spec.cooldown and cooldown_end > at:
        steps.append(TraceStep("Cooldown", "no", f"no further alert until {_format_time(cooldown_end)}"))
    return steps


def _list_notifications(alert: Alert | None, at: datetime) -> list[TraceStep]:
    """Return the silences and notifications of an alert, or why there are none."""
    if alert is None:
        return []
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


def _verdict(steps: list[TraceStep], alert: Alert | None) -> str:
    if alert is not None:
        return f"It fired: {alert.message}."
    against = [step for step in steps if step.state == "no"]
    return f"It did not fire: {against[0].label.lower()}: {against[0].detail}." if against else "It did not fire yet."


def _window_values(spec: RuleSpec, signal: Signal | None, at: datetime) -> list[tuple[datetime, float | None, bool]]:
    if signal is None:
        return []
    window_start = int(signal.times.searchsorted(to_microseconds(at) - spec.window, "right"))
    first = max(window_start, len(signal) - MAX_VALUES)
    points = zip(
        signal.times[first:].tolist(), signal.values[first:].tolist(), signal.breach[first:].tolist(), strict=True
    )
    return [(to_datetime(time), None if value != value else value, breach) for time, value, breach in points]


def _format_time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
