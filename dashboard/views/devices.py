"""The list of devices, and one device."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from django.contrib.auth.decorators import login_required
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_safe

from dashboard.device_overview import see
from dashboard.sparklines import HOUR, LINES, POINTS, SOON, line, numbers
from dashboard.views.alerts import open_rows
from metrics.models import Device
from metrics.query import latest
from metrics.query.execute import execute_query
from metrics.query.query import Query
from metrics.query.result import ResultSeries
from rest.caller import caller_of

PAGE = 50
# Counting stops here: "10,000 and more" is as good to a reader, and costs the same with a million devices.
COUNTED = 10_000
METRICS_SHOWN = 200
ALERTS = 10
RANGES = (
    ("15m", "15 min"),
    ("1h", "1 h"),
    ("6h", "6 h"),
    ("24h", "24 h"),
    ("7d", "7 d"),
    ("30d", "30 d"),
    ("90d", "90 d"),
)


def matching(request: HttpRequest, words: str) -> QuerySet[Device]:
    """The devices with these letters in id or name that whoever asks sees."""
    devices = Device.objects.visible_to(caller_of(request.user)).order_by("device_id")
    return devices.filter(Q(device_id__icontains=words) | Q(name__icontains=words)) if words else devices


@login_required
@require_safe
def device_list(request: HttpRequest) -> HttpResponse:
    """A page of devices by id. The next begins after the last id of this one, so each costs what the first does."""
    words = request.GET.get("q", "").replace("\0", "").strip()[:200]
    after = request.GET.get("after", "").replace("\0", "")
    devices = matching(request, words)
    found = devices[:COUNTED].count()
    page = list(devices.filter(device_id__gt=after)[: PAGE + 1] if after else devices[: PAGE + 1])
    context = {
        "rows": see(page[:PAGE], timezone.now()),
        "words": words,
        "after": after,
        "found": found,
        "counted": found == COUNTED,
        "next": page[PAGE - 1].device_id if len(page) > PAGE else "",
    }
    return render(request, "dashboard/devices.html", context)


def _device(request: HttpRequest, device_id: str) -> Device:
    return get_object_or_404(Device.objects.visible_to(caller_of(request.user)), device_id=device_id.replace("\0", ""))


@login_required
@require_safe
def device_page(request: HttpRequest, device_id: str) -> HttpResponse:
    seen = see([_device(request, device_id)], timezone.now())[0]
    drawable = seen.drawable
    context = {
        "seen": seen,
        "alert_rows": open_rows(caller_of(request.user), ALERTS, device_id=seen.device.device_id),
        "readings": sorted(seen.readings, key=lambda r: r.metric_name)[:METRICS_SHOWN],
        "hidden": max(0, len(seen.readings) - METRICS_SHOWN),
        "drawable": [{"name": r.metric_name, "kind": r.kind, "unit": r.raw_unit} for r in drawable[:METRICS_SHOWN]],
        "ranges": RANGES,
        "address": request.build_absolute_uri("/").rstrip("/"),
    }
    return render(request, "dashboard/device.html", context)


@login_required
@require_safe
def recent(request: HttpRequest, device_id: str) -> HttpResponse:
    """For each metric the line of the last hour and the range since the reader's midnight, in one answer."""
    device = _device(request, device_id)
    now = timezone.now()
    try:
        midnight = datetime.fromtimestamp(float(request.GET.get("today", "")), UTC)
    except (ValueError, OverflowError, OSError):
        midnight = now - timedelta(days=1)
    midnight = min(max(midnight, now - timedelta(days=1, hours=2)), now)
    names = request.GET.getlist("metric") or latest.list_device_metrics(device.device_id)
    names = [name for name in dict.fromkeys(names) if "\0" not in name][:LINES]
    return JsonResponse(recent_of(device.device_id, names, midnight, now) if names else {"metrics": {}})


def recent_of(device_id: str, names: Sequence[str], midnight: datetime, now: datetime) -> dict[str, object]:
    """`max_points` keeps the lowest and the highest of every stretch, so the range of the day is exact."""
    asked = Query(tuple(names), now - HOUR, now + SOON, (device_id,), max_points=POINTS)
    hour, today = execute_query(asked), execute_query(replace(asked, start=midnight, max_points=2 * POINTS))
    lines, days = numbers(hour), numbers(today)
    missing = list(dict.fromkeys(hour.incomplete + today.incomplete))
    shown = {name: line(lines.get((device_id, name))) | _range(days.get((device_id, name))) for name in names}
    return {"metrics": shown, "incomplete": missing}


def _range(day: ResultSeries | None) -> dict[str, float | None]:
    return {"low": float(min(day.values)) if day else None, "high": float(max(day.values)) if day else None}
