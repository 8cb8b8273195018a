"""The overview: open alerts, the states of the devices and a live chart."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from alerts.models import Alert, Status
from alerts.notifications.retry_queue import find_failing_channels
from alerts.silenced_alerts import MAX_COUNTED, count_silenced
from alerts.silences import list_active
from alerts.visibility import visible_silences
from dashboard.device_overview import DeviceRow, DeviceSummary, device_rows, importance, worst_first
from dashboard.open_alert_counts import OpenAlertCounts
from dashboard.views.devices import sending
from dashboard.views.inbox import worst_rows
from metrics.alert_summary import registered_summary
from metrics.devices.device_state import ONLINE, count_states, ranks_of
from metrics.models import Device
from metrics.query.last_seen import LastSeenColumns, cached_last_seen
from metrics.storage.errors import StorageUnavailable
from metrics.storage.units import to_datetime
from rest.caller import Caller, Scope, caller_of

# A fleet of up to this many devices is read whole; of a larger one, the cached last-seen times choose the rows.
MAX_DEVICES = 200
MAX_ROWS = 20
MAX_CHARTABLE = 20  # online devices of a large fleet among which the one to chart is chosen
CHART_RANGES = (("5m", "5 min"), ("15m", "15 min"), ("1h", "1 h"), ("6h", "6 h"), ("24h", "24 h"))


def summarize_devices(caller: Caller) -> DeviceSummary:
    """Return the number of devices in each state, of those that a caller sees, and the rows to list."""
    now = timezone.now()
    devices = Device.objects.visible_to(caller).order_by("-created_at", "device_id")
    listed = list(devices[: MAX_DEVICES + 1])
    if len(listed) <= MAX_DEVICES:
        return DeviceSummary.of_rows(device_rows(listed, now))
    return _summarize_fleet(cached_last_seen().visible_to(caller), now)


def _summarize_fleet(fleet: LastSeenColumns, now: datetime) -> DeviceSummary:
    """Return the summary of a large fleet: exact counts, and rows of the worst devices and of some to chart."""
    ranks = ranks_of(fleet)
    worst = np.lexsort((-fleet.times, ranks))[:MAX_ROWS]
    online = np.flatnonzero(ranks == ONLINE.rank)[:MAX_CHARTABLE]
    keys = fleet.devices[np.union1d(worst, online)].tolist()
    rows = device_rows(Device.objects.filter(pk__in=keys), now)
    newest = int(fleet.times.max(initial=0))
    return DeviceSummary(worst_first(rows), count_states(ranks), to_datetime(newest) if newest else None)


def device_to_chart(rows: Sequence[DeviceRow]) -> DeviceRow | None:
    """Return the online device with the most important metric, else the device that was seen last.

    Among online devices the last-seen time would choose another device with every reload.
    """
    drawable = [row for row in rows if row.drawable]
    online = [row for row in drawable if row.state is ONLINE]
    if online:
        return min(online, key=lambda row: (importance(row.drawable[0].metric_name)[0], row.device.device_id))
    return max(drawable, key=lambda row: row.last_seen_seconds, default=None)


@require_safe
def overview(request: HttpRequest) -> HttpResponse:
    """Show the overview, or the first steps where no device has sent data."""
    caller = caller_of(request.user)
    summary = summarize_devices(caller)
    charted = device_to_chart(summary.rows)
    context = {
        "summary": summary,
        "rows": summary.rows[:MAX_ROWS],
        "more": summary.total > MAX_ROWS,
        "charted": charted,
        "point": charted.drawable[0] if charted else None,
        "empty": summary.complete and summary.newest is None and caller.groups != (),
        "ranges": CHART_RANGES,
        **sending(request),
        "failing_channels": find_failing_channels(caller) if caller.may(Scope.OPERATE) else [],
        "alerting": _alerting_problem(caller),
    }
    return render(request, "dashboard/overview.html", context | _open_alerts(caller))


def _alerting_problem(caller: Caller) -> str:
    """Return why rules are not evaluated as they should be; empty if they are.

    The reason may name rules, so only people who see every device read it.
    """
    try:
        status, detail = registered_summary().health()
    except StorageUnavailable:
        return "the state of rule evaluation cannot be read"
    if status == "healthy":
        return ""
    return detail if caller.groups is None else "rules are not evaluated as they should be; ask an administrator"


def _open_alerts(caller: Caller) -> dict[str, Any]:
    """Return the counts of open alerts, silences and silenced alerts, and the worst unacknowledged alert."""
    counts = OpenAlertCounts.visible_to(caller)
    worst = worst_rows(caller, 1, status=Status.ACTIVE) if counts.unacknowledged else []
    active = list_active(timezone.now())
    visible = set(visible_silences(caller).values_list("pk", flat=True)) if active else set()
    alerts = Alert.objects.visible_to(caller).without_shadows()
    return {
        "open_alerts": counts,
        "worst": next(iter(worst), None),
        "silences_count": sum(silence.pk in visible for silence in active),
        "silenced_count": count_silenced(alerts, active) if counts.open else 0,
        "silenced_of": MAX_COUNTED if counts.open.number > MAX_COUNTED else 0,
    }


@require_safe
def device_summary(request: HttpRequest) -> HttpResponse:
    """Render the summary of the devices, for the overview's script."""
    summary = summarize_devices(caller_of(request.user))
    return render(request, "dashboard/_device_summary.html", {"summary": summary})


@require_safe
def open_alerts(request: HttpRequest) -> HttpResponse:
    """Render the summary of the open alerts and silences, for the overview's script."""
    return render(request, "dashboard/alerts/_open_alerts.html", _open_alerts(caller_of(request.user)))
