"""The list of devices, and the page of one device."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_safe

from dashboard.agent_state import agent_state
from dashboard.device_overview import device_rows
from dashboard.open_alert_counts import BoundedCount
from dashboard.pagination import PAGE_SIZE, ListPage, address_of, search_of
from dashboard.sparklines import MAX_POINTS, MAX_SPARKLINES, SPAN, numeric_series, points_of
from dashboard.views.inbox import worst_rows
from ingest.agents.signing import site_key
from ingest.collection.models import Annotation
from metrics.models import Device
from metrics.query import latest
from metrics.query.execute import execute_query
from metrics.query.query import CLOCK_TOLERANCE, Query
from metrics.query.result import ResultSeries
from metrics.value_text import kind_of
from rest.caller import caller_of

MAX_COUNT = 10_000
MAX_METRICS = 200
MAX_ALERTS = 10
MAX_ANNOTATIONS, MAX_LISTED_ANNOTATIONS = 200, 5
MAX_ANNOTATION_LENGTH = 40  # characters in the chart
RANGES = (
    ("15m", "15 min"),
    ("1h", "1 h"),
    ("6h", "6 h"),
    ("24h", "24 h"),
    ("7d", "7 d"),
    ("30d", "30 d"),
    ("90d", "90 d"),
)


def matching_devices(request: HttpRequest, search: str) -> QuerySet[Device]:
    """Return the devices that the caller sees and that have the search words in their ID or name, by ID."""
    devices = Device.objects.visible_to(caller_of(request.user)).order_by("device_id")
    return devices.filter(Q(device_id__icontains=search) | Q(name__icontains=search)) if search else devices


@require_safe
def device_list(request: HttpRequest) -> HttpResponse:
    """Show a page of devices by ID. `?after=` is the last ID of the page before, so every page costs the same."""
    search = search_of(request)
    after = request.GET.get("after", "").replace("\0", "")
    devices = matching_devices(request, search)
    rows = list(devices.filter(device_id__gt=after)[: PAGE_SIZE + 1] if after else devices[: PAGE_SIZE + 1])
    has_next = len(rows) > PAGE_SIZE
    page = ListPage(
        rows[:PAGE_SIZE],
        first_url=address_of(request, {"after": None}) if after else "",
        next_url=address_of(request, {"after": rows[PAGE_SIZE - 1].device_id}) if has_next else "",
    )
    context = {
        "rows": device_rows(page.rows, timezone.now()),
        "page": page,
        "search": search,
        "count": BoundedCount(devices[:MAX_COUNT].count(), MAX_COUNT),
        **sending(request),
    }
    return render(request, "dashboard/devices.html", context)


def sending(request: HttpRequest) -> dict[str, str]:
    """Return what the commands that send a first point need: the address of the site, and its key for agents."""
    return {"site_url": request.build_absolute_uri("/").rstrip("/"), "site_key": site_key()}


def _device(request: HttpRequest, device_id: str) -> Device:
    return get_object_or_404(Device.objects.visible_to(caller_of(request.user)), device_id=device_id)


@require_safe
def device_page(request: HttpRequest, device_id: str) -> HttpResponse:
    """Show a device: its newest values, a chart and its open alerts."""
    row = device_rows([_device(request, device_id)], timezone.now())[0]
    drawable = [
        {"name": point.metric_name, "kind": kind_of(point.value), "unit": point.unit or ""}
        for point in row.drawable[:MAX_METRICS]
    ]
    context = {
        "row": row,
        "agent": agent_state(row.values),
        "alert_rows": worst_rows(caller_of(request.user), MAX_ALERTS, device_name=row.device.device_id),
        "points": sorted(row.values, key=lambda point: point.metric_name)[:MAX_METRICS],
        "hidden_count": max(0, len(row.values) - MAX_METRICS),
        "drawable": drawable,
        "ranges": RANGES,
        **sending(request),
        **_annotations(row.device),
    }
    return render(request, "dashboard/device.html", context)


def _annotations(device: Device) -> dict[str, Any]:
    """Return the newest deployments of a device, for a list and for the chart."""
    annotations = list(Annotation.objects.filter(device_id=device.device_id)[:MAX_ANNOTATIONS])
    events = [
        {"at": annotation.at.timestamp() * 1000, "text": str(annotation)[:MAX_ANNOTATION_LENGTH]}
        for annotation in annotations
    ]
    return {"annotations": annotations[:MAX_LISTED_ANNOTATIONS], "chart_events": events}


@require_safe
def recent(request: HttpRequest, device_id: str) -> HttpResponse:
    """Return the sparkline of the last hour and the range since midnight of each metric."""
    device = _device(request, device_id)
    now = timezone.now()
    midnight = timezone.localtime(now).replace(hour=0, minute=0, second=0, microsecond=0)
    names = request.GET.getlist("metric") or latest.list_device_metrics(device.device_id)
    names = [name for name in dict.fromkeys(names) if "\0" not in name][:MAX_SPARKLINES]
    return JsonResponse(recent_values(device.device_id, names, midnight, now) if names else {"metrics": {}})


def recent_values(device_id: str, names: Sequence[str], midnight: datetime, now: datetime) -> dict[str, object]:
    """Return the sparkline and the range of each metric. `max_points` keeps extremes, so the range is exact."""
    last_hour = Query(tuple(names), now - SPAN, now + CLOCK_TOLERANCE, (device_id,), max_points=MAX_POINTS)
    hour, today = execute_query(last_hour), execute_query(replace(last_hour, start=midnight, max_points=2 * MAX_POINTS))
    by_hour, by_day = numeric_series(hour), numeric_series(today)
    missing = list(dict.fromkeys(hour.incomplete + today.incomplete))
    metrics = {
        name: points_of(by_hour.get((device_id, name))) | _range(by_day.get((device_id, name))) for name in names
    }
    return {"metrics": metrics, "incomplete": missing}


def _range(day: ResultSeries | None) -> dict[str, float | None]:
    return {"low": float(min(day.values)) if day else None, "high": float(max(day.values)) if day else None}
