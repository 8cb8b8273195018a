"""Routes: to which channels alerts go besides those that their rule names."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from alerts import recurring_windows
from alerts.models import Alert, Route
from metrics.models import Device


def open_routes(now: datetime) -> list[Route]:
    """Those that are on at this time of the week."""
    return [route for route in Route.objects.filter(enabled=True) if recurring_windows.holds(route.weekly, now)]


def channels_of(alerts: Sequence[Alert], now: datetime) -> dict[int, list[str]]:
    """The names of channels for each alert (by primary key), each once: those of its rule, then those of routes."""
    found = open_routes(now)
    groups = _groups_of(alerts) if any(route.device_groups for route in found) else {}
    return {
        alert.pk: list(
            dict.fromkeys(
                [
                    *(alert.rule.notification_channels if alert.rule is not None else ()),
                    *(name for route in found if _takes(route, alert, groups) for name in route.channels),
                ]
            )
        )
        for alert in alerts
    }


def _takes(route: Route, alert: Alert, groups: dict[int, set[str]]) -> bool:
    if route.levels and alert.level not in route.levels:
        return False
    return not route.device_groups or bool(groups.get(alert.device_id or 0, set()) & set(route.device_groups))


def _groups_of(alerts: Sequence[Alert]) -> dict[int, set[str]]:
    devices = {alert.device_id for alert in alerts if alert.device_id is not None}
    membership = Device.groups.through.objects.filter(device_id__in=devices)
    found: defaultdict[int, set[str]] = defaultdict(set)
    for device, group in membership.values_list("device_id", "devicegroup__name"):
        found[device].add(group)
    return found
