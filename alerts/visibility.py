"""Visibility of rules, silences, routes, channels and deliveries, and the permission to change them.

A caller of device groups sees the objects for the devices of its groups; of objects for other devices as well, only
the part about its own devices. It can change only objects for no other devices. Callers without groups see nothing.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from django.db.models import BooleanField, Count, Exists, Func, Max, OuterRef, Q, QuerySet

from alerts.models import Alert, AlertEvent, Channel, Delivery, EventKind, Notice, Route, Rule, Silence
from alerts.notifications.incidents import describe_incident
from metrics.models import Device
from rest.caller import Caller
from rest.errors import Forbidden

NOISE: Any = Rule._meta.get_field("noise")
OTHER_DEVICES = "{} concerns devices outside of your device groups: only an administrator may change it"


class IsIn(Func):
    """`value = ANY(array)`, which an index of the value's column serves."""

    template = "%(expressions)s)"
    arg_joiner = " = ANY("
    output_field = BooleanField()


def visible_rules(caller: Caller) -> QuerySet[Rule]:
    """Return the rules that reach a device of the caller's groups, also rules of all devices."""
    if caller.sees_all:
        return Rule.objects.all()
    if not caller.sees_some:
        return Rule.objects.none()
    return Rule.objects.filter(_names_visible(caller) | Q(device_ids=[], device_groups=[]))


def visible_silences(caller: Caller) -> QuerySet[Silence]:
    """Return the silences that concern a device of the caller's groups, also silences of all devices."""
    if caller.sees_all:
        return Silence.objects.all()
    if not caller.sees_some:
        return Silence.objects.none()
    of_all_devices = Q(device_ids=[], device_groups=[], alert_id="")
    of_any_rule = Q(rule_ids=[]) | Q(Exists(visible_rules(caller).filter(IsIn("rule_id", OuterRef("rule_ids")))))
    alerts = Alert.objects.visible_to(caller).values("alert_id")
    return Silence.objects.filter(_names_visible(caller) | Q(alert_id__in=alerts) | (of_all_devices & of_any_rule))


def visible_routes(caller: Caller) -> QuerySet[Route]:
    """Return the routes of the caller's groups, also routes of all devices."""
    if caller.sees_all:
        return Route.objects.all()
    if not caller.sees_some:
        return Route.objects.none()
    return Route.objects.filter(Q(device_groups=[]) | Q(device_groups__overlap=list(caller.groups or ())))


def visible_channels(caller: Caller) -> QuerySet[Channel]:
    """Return the channels that the visible rules and routes notify."""
    if caller.sees_all:
        return Channel.objects.all()
    lists = [*visible_rules(caller).values_list("notification_channels", flat=True)]
    for route in visible_routes(caller):
        lists += [route.channels, *(step["channels"] for step in route.escalation)]
    return Channel.objects.filter(name__in={name for names in lists for name in names})


def visible_deliveries(caller: Caller) -> QuerySet[Delivery]:
    """Return the deliveries whose alerts the caller sees all: one delivery may carry many notifications."""
    if caller.sees_all:
        return Delivery.objects.all()
    notices, visible = Notice.objects.filter(delivery=OuterRef("pk")), Alert.objects.visible_to(caller)
    return Delivery.objects.filter(
        Exists(notices.filter(alert__in=visible)), ~Exists(notices.exclude(alert__in=visible))
    )


def narrow_rules(rules: Sequence[Rule], caller: Caller) -> None:
    """Limit rules in memory, for a response, to the caller's devices, groups and alerts; sets `other_devices`.

    Counts and the noise score of a rule that reaches other devices would tell of their alerts.
    """
    if caller.sees_all:
        return
    devices = _visible_device_ids({name for rule in rules for name in rule.device_ids}, caller)
    for rule in rules:
        names = (rule.device_ids, rule.device_groups)
        _narrow(rule, devices, caller)
        rule.other_devices = not any(names) or (rule.device_ids, rule.device_groups) != names
    beyond = [rule for rule in rules if rule.other_devices]
    alerts = Alert.objects.visible_to(caller).filter(rule__in=beyond).order_by()
    triggers = alerts.values_list("rule").annotate(Count("pk"), Max("triggered_at"))
    counts = {rule: (count, latest) for rule, count, latest in triggers}
    for rule in beyond:
        rule.total_triggers, rule.last_triggered = counts.get(rule.pk, (0, None))
        NOISE.set_cached_value(rule, None)


def narrow_silences(silences: Sequence[Silence], caller: Caller) -> None:
    """Limit silences in memory, for a response, to the caller's devices, groups and rules; sets `other_devices`."""
    if caller.sees_all:
        return
    devices = _visible_device_ids({name for silence in silences for name in silence.device_ids}, caller)
    rule_ids = {name for silence in silences for name in silence.rule_ids}
    rules = set(visible_rules(caller).filter(rule_id__in=rule_ids).values_list("rule_id", flat=True))
    for silence in silences:
        names = silence.device_ids, silence.device_groups, silence.alert_id
        silence.other_devices = not is_silence_within(caller, *names)
        _narrow(silence, devices, caller)
        silence.rule_ids = [name for name in silence.rule_ids if name in rules]


def narrow_document(document: dict[str, Any], caller: Caller) -> dict[str, Any]:
    """Return the fields of a version of a rule, limited to the caller's devices and groups."""
    if caller.sees_all:
        return document
    devices = _visible_device_ids(document["device_ids"], caller)
    return document | {
        "device_ids": [name for name in document["device_ids"] if name in devices],
        "device_groups": visible_group_names(document["device_groups"], caller),
    }


def narrow_routes(routes: Sequence[Route], caller: Caller) -> None:
    """Limit routes in memory, for a response, to the caller's groups."""
    for route in routes:
        route.device_groups = visible_group_names(route.device_groups, caller)


def narrow_events(events: Sequence[AlertEvent], alert: Alert, caller: Caller) -> None:
    """Limit the timeline of an alert in memory: the title of its incident counts the visible alerts only.

    The stored title also counts the devices of other groups and may name one of these groups.
    """
    joined = [event for event in events if event.kind == EventKind.JOINED]
    if caller.sees_all or not joined:
        return
    title = ""
    if alert.incident is not None:
        kind, _, name = alert.incident.cause.partition(":")
        is_named = kind != "group" or visible_group_names([name], caller)
        visible = Alert.objects.visible_to(caller).filter(incident=alert.incident)
        title = describe_incident(visible, alert.incident.cause if is_named else "rule:")
    for event in joined:
        event.note = title


def check_may_change_rule(rule: Rule, caller: Caller) -> None:
    """Raise Forbidden if a rule reaches devices outside of the caller's groups; a rule without names reaches all."""
    if caller.sees_all:
        return
    names_devices = bool(rule.device_ids or rule.device_groups)
    groups = visible_group_names(rule.device_groups, caller)
    if not names_devices or len(groups) < len(rule.device_groups) or not _are_visible(caller, rule.device_ids):
        raise Forbidden(OTHER_DEVICES.format(rule.rule_id))


def may_change_silence(silence: Silence, caller: Caller) -> bool:
    """Return whether a silence concerns no devices outside of the caller's groups."""
    return is_silence_within(caller, silence.device_ids, silence.device_groups, silence.alert_id)


def check_may_change_silence(silence: Silence, caller: Caller) -> None:
    """Raise Forbidden if a silence concerns devices outside of the caller's groups."""
    if not may_change_silence(silence, caller):
        raise Forbidden(OTHER_DEVICES.format(silence.silence_id))


def is_silence_within(caller: Caller, device_ids: Sequence[str], device_groups: Sequence[str], alert_id: str) -> bool:
    """Return whether a silence concerns visible devices only: its lists must all match, so one of them is enough."""
    if caller.sees_all or (device_ids and _are_visible(caller, device_ids)):
        return True
    if device_groups and len(visible_group_names(device_groups, caller)) == len(device_groups):
        return True
    return bool(alert_id) and Alert.objects.visible_to(caller).filter(alert_id=alert_id).exists()


def _are_visible(caller: Caller, device_ids: Sequence[str]) -> bool:
    return len(_visible_device_ids(device_ids, caller)) == len(set(device_ids))


def _narrow(row: Rule | Silence, devices: set[str], caller: Caller) -> None:
    row.device_ids = [name for name in row.device_ids if name in devices]
    row.device_groups = visible_group_names(row.device_groups, caller)


def _visible_device_ids(names: Iterable[str], caller: Caller) -> set[str]:
    return set(Device.objects.visible_to(caller).filter(device_id__in=set(names)).values_list("device_id", flat=True))


def visible_group_names(names: Sequence[str], caller: Caller) -> list[str]:
    """Return those of these device groups that the caller sees."""
    return [] if caller.device_id is not None else list(caller.narrowed(names) or ())


def _names_visible(caller: Caller) -> Q:
    """Return the condition that a row names one of the caller's devices or groups."""
    devices = Device.objects.visible_to(caller).filter(IsIn("device_id", OuterRef("device_ids")))
    return Q(device_groups__overlap=list(caller.groups or ())) | Q(Exists(devices))
