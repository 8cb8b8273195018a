"""The overview: open alerts, the states of the devices and a live chart."""

from collections.abc import Sequence
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from dashboard.device_overview import DeviceRow, DeviceSummary, device_rows, importance
from dashboard.device_state import ONLINE
from dashboard.open_alert_counts import OpenAlertCounts
from dashboard.views.devices import site_url
from dashboard.views.inbox import open_rows
from metrics.models import Device
from metrics.query import latest
from rest.caller import Caller, caller_of

# A fleet of up to this many devices is read whole; of a larger one, the most recently seen devices.
MAX_DEVICES = 200
MAX_ROWS = 20
CHART_RANGES = (("5m", "5 min"), ("15m", "15 min"), ("1h", "1 h"), ("6h", "6 h"), ("24h", "24 h"))


def summarize_devices(caller: Caller) -> DeviceSummary:
    """Return the devices that a caller sees, the worst state first and then the most recently seen."""
    now = timezone.now()
    visible = Device.objects.visible_to(caller)
    total = visible.count()
    devices = visible.order_by("-created_at", "device_id")
    if total > MAX_DEVICES and (recent := latest.find_recently_active_devices(MAX_DEVICES, caller.groups)):
        devices = devices.filter(device_id__in=recent)
    rows = device_rows(devices[:MAX_DEVICES], now)
    rows.sort(key=lambda row: (row.state.rank, -row.last_seen_seconds, row.device.device_id))
    return DeviceSummary(rows, total)


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
        "empty": summary.complete and summary.newest is None,
        "ranges": CHART_RANGES,
        "site_url": site_url(request),
    }
    return render(request, "dashboard/overview.html", context | _open_alerts(caller))


def _open_alerts(caller: Caller) -> dict[str, Any]:
    """Return the counts of open alerts and the worst one."""
    counts = OpenAlertCounts.visible_to(caller)
    worst = open_rows(caller, 1) if counts.open else []
    return {"open_alerts": counts, "worst": next(iter(worst), None)}


@require_safe
def device_summary(request: HttpRequest) -> HttpResponse:
    """Render the summary of the devices, for the overview's script."""
    summary = summarize_devices(caller_of(request.user))
    return render(request, "dashboard/_device_summary.html", {"summary": summary})


@require_safe
def open_alerts(request: HttpRequest) -> HttpResponse:
    """Render the summary of the open alerts, for the overview's script; empty where no alert is open."""
    context = _open_alerts(caller_of(request.user))
    html = render(request, "dashboard/alerts/_open_alerts.html", context) if context["worst"] else HttpResponse()
    html["X-Unacknowledged"] = str(context["open_alerts"].unacknowledged)
    return html
