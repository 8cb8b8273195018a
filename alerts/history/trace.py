"""Why a rule did, or did not, raise an alert of a device at a moment: what evaluation had before it, step by step.

Nothing is written down beforehand: the stored points go through the conditions anew, by the version of the rule that
was in force, and beside them stands what the tables say of alerts, silences and deliveries. So it can be told of any
moment of which the points are still stored, also where nothing happened.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from alerts import silences
from alerts.conditions.spec import SECOND, BadRule, Spec, read_spec
from alerts.conditions.thresholds import Signal
from alerts.history.replay import History, history, replay
from alerts.models import Alert, Notice, Rule, RuleVersion
from alerts.rules.scope import Scope
from metrics.models import Device
from metrics.storage.units import to_datetime, to_microseconds
from rest.caller import Caller

MOST_SHOWN = 100  # values of a window
LOOKED_BACK = timedelta(hours=1)  # at the least, in which an episode may have begun


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that evaluation asked.

    state   yes: it spoke for an alert; no: it spoke against one; note: it decided nothing
    """

    label: str
    state: str
    detail: str


@dataclass(frozen=True, slots=True)
class Trace:
    """The steps in the order in which evaluation takes them, and what came of it.

    values  of the window, the newest last: (time, value, whether it was a breach)
    """

    verdict: str
    fired: bool
    steps: list[Step]
    values: list[tuple[datetime, float | None, bool]]
    alert: Alert | None = None


def trace(rule: Rule, device: Device, at: datetime, caller: Caller) -> Trace:
    """Of a device that the caller sees. Raises Unanswerable where that would be too much to read."""
    document, version, since = _in_force(rule, at)
    steps = [_enabled(rule, document, version, since)]
    try:
        spec = read_spec(document)
    except BadRule as error:
        return Trace(f"It was not evaluated: {error}.", False, [*steps, Step("Rule", "no", str(error))], [])
    found = Alert.objects.filter(rule=rule, device=device, triggered_at__lte=at).order_by("-triggered_at")
    current, last = _now_and_before(found[:2], at)
    covered = _covers(document, device)
    steps.append(covered)
    signal = _signal(spec, device, at, caller) if covered.state == "yes" else None
    steps += _judged(spec, signal, at)
    steps += _before(spec, last, at)
    steps += _told(current, at)
    return Trace(_verdict(steps, current), current is not None, steps, _values(spec, signal, at), current)


def _in_force(rule: Rule, at: datetime) -> tuple[dict[str, Any], int, datetime | None]:
    """What the rule said at a moment: its document, which version that is, and since when; else its first."""
    versions = RuleVersion.objects.filter(rule=rule)
    found = versions.filter(at__lte=at).order_by("-version").first() or versions.order_by("version").first()
    assert found is not None
    return found.document, found.version, found.at if found.at <= at else None


def _enabled(rule: Rule, document: dict[str, Any], version: int, since: datetime | None) -> Step:
    if since is None:
        return Step("Rule", "no", f"there was no “{rule.name}” yet; what follows is by its version {version}")
    if not document["enabled"]:
        return Step("Rule", "no", f"version {version} was disabled")
    if rule.suspended:
        return Step("Rule", "no", f"suspended for an error: {rule.suspended}")
    return Step("Rule", "yes", f"version {version}, in force since {_time(since)}")


def _covers(document: dict[str, Any], device: Device) -> Step:
    ids, groups = document["device_ids"], document["device_groups"]
    if not ids and not groups:
        return Step("Device", "yes", "the rule is about every device")
    if device.device_id in ids:
        return Step("Device", "yes", "the rule names it")
    mine = set(device.groups.values_list("name", flat=True)) & set(groups)
    if mine:
        return Step("Device", "yes", f"it is in {', '.join(sorted(mine))}")
    return Step("Device", "no", "the rule neither names it nor one of its groups")


def _signal(spec: Spec, device: Device, at: datetime, caller: Caller) -> Signal | None:
    """What the conditions made of the stored points up to a moment."""
    before = max(timedelta(microseconds=2 * spec.lookback + spec.window), LOOKED_BACK)
    past: History = history(spec, Scope(caller, [device.device_id]), at - before, at + timedelta(microseconds=1))
    found: list[Signal] = []
    replay(past, lambda subject, signal, points: found.append(signal))
    return found[0] if found else None


def _judged(spec: Spec, signal: Signal | None, at: datetime) -> list[Step]:
    if signal is None or not len(signal):
        return [Step("Values", "no", "nothing that it could judge is stored up to then")]
    now = to_microseconds(at)
    newest, value = int(signal.times[-1]), float(signal.values[-1])
    judged = "could not be told" if np.isnan(value) else f"{value:.6g}"
    steps = [
        Step(
            "Value", "yes" if signal.breach[-1] else "no", f"{judged} at {_time(to_datetime(newest))}: {_met(signal)}"
        ),
    ]
    breaches = signal.times[signal.breach & (signal.times > now - spec.window)]
    enough = len(breaches) >= spec.trigger_count
    told = f"{len(breaches)} of {spec.trigger_count} within {spec.window // SECOND} s"
    return [*steps, Step("Count", "yes" if enough else "no", told)]


def _met(signal: Signal) -> str:
    if signal.breach[-1]:
        return "the condition is met"
    return "well" if signal.clear[-1] else "the condition is not met, and it is not well either"


def _now_and_before(newest: Iterable[Alert], at: datetime) -> tuple[Alert | None, Alert | None]:
    """The alert that was open at a moment, and the one before."""
    found = list(newest)
    if found and (found[0].resolved_at is None or found[0].resolved_at >= at):
        return found[0], found[1] if len(found) > 1 else None
    return None, found[0] if found else None


def _before(spec: Spec, last: Alert | None, at: datetime) -> list[Step]:
    if last is None or last.resolved_at is None:
        return [Step("Alert before", "note", "there was none")]
    steps = [Step("Alert before", "note", f"{last.alert_id}, over since {_time(last.resolved_at)}")]
    cooled = last.triggered_at + timedelta(microseconds=spec.cooldown)
    if spec.cooldown and cooled > at:
        steps.append(Step("Cooldown", "no", f"until {_time(cooled)} there is no other"))
    return steps


def _told(alert: Alert | None, at: datetime) -> list[Step]:
    """Whether anybody was told, and why not."""
    if alert is None:
        return []
    if alert.shadow or alert.retroactive:
        why = "the rule is a shadow" if alert.shadow else "its measurements came late"
        return [Step("Notification", "no", f"nobody is told: {why}")]
    steps = [Step("Silence", "no", reason) for reason in silences.find_covering([alert.pk], at).values()]
    for notice in Notice.objects.filter(alert=alert).select_related("delivery").order_by("pk")[:20]:
        answer = (
            f", answered {notice.delivery.answer_status}" if notice.delivery and notice.delivery.answer_status else ""
        )
        told = f"{notice.kind} to {notice.channel_name}: {notice.status}{answer}"
        state = "yes" if notice.status == "sent" else "note" if notice.status == "waiting" else "no"
        steps.append(Step("Notification", state, f"{told}{f' ({notice.reason})' if notice.reason else ''}"))
    return steps or [Step("Notification", "no", "the rule names no channel, and no route takes it")]


def _verdict(steps: list[Step], alert: Alert | None) -> str:
    if alert is not None:
        return f"It fired: {alert.message}."
    against = [step for step in steps if step.state == "no"]
    return f"It did not fire: {against[0].label.lower()}: {against[0].detail}." if against else "It did not fire yet."


def _values(spec: Spec, signal: Signal | None, at: datetime) -> list[tuple[datetime, float | None, bool]]:
    if signal is None:
        return []
    first = max(int(signal.times.searchsorted(to_microseconds(at) - spec.window, "right")), len(signal) - MOST_SHOWN)
    return [
        (to_datetime(time), None if value != value else value, breach)
        for time, value, breach in zip(
            signal.times[first:].tolist(), signal.values[first:].tolist(), signal.breach[first:].tolist(), strict=True
        )
    ]


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
