"""Routes: the channels that alerts are sent to in addition to the channels of their rules."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from alerts import recurring_windows
from alerts.models import Alert, Route
from metrics.models import Device


def list_active_routes(now: datetime) -> list[Route]:
    """Return the enabled routes whose recurring window is active at this time."""
    return [route for route in Route.objects.filter(enabled=True) if recurring_windows.is_active(route.weekly, now)]


def find_channels(alerts: Sequence[Alert], now: datetime) -> dict[int, list[str]]:
    """Return the channel names of each alert (by primary key), without duplicates: of its rule, then of routes."""
    active = list_active_routes(now)
    groups = _find_device_groups(alerts) if any(route.device_groups for route in active) else {}
    channels: dict[int, list[str]] = {}
    for alert in alerts:
        names = list(alert.rule.notification_channels) if alert.rule is not None else []
        names += [name for route in active if _matches(route, alert, groups) for name in route.channels]
        channels[alert.pk] = list(dict.fromkeys(names))
    return channels


def _matches(route: Route, alert: Alert, groups: dict[int, set[str]]) -> bool:
    if route.levels and alert.level not in route.levels:
        return False
    return not route.device_groups or bool(groups.get(alert.device_id or 0, set()) & set(route.device_groups))


def _find_device_groups(alerts: Sequence[Alert]) -> dict[int, set[str]]:
    """Return the group names of each device (by primary key)."""
    devices = {alert.device_id for alert in alerts if alert.device_id is not None}
    membership = Device.groups.through.objects.filter(device_id__in=devices)
    groups: defaultdict[int, set[str]] = defaultdict(set)
    for device, group in membership.values_list("device_id", "devicegroup__name"):
        groups[device].add(group)
    return groups
