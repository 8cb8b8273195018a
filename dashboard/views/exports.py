"""The page of exports, and the names that its form suggests."""

import json

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from dashboard.pagination import search_of
from dashboard.views.devices import matching_devices
from metrics.models import Device, Series
from rest.caller import caller_of

MAX_SUGGESTIONS = 50
RANGES = (("3600", "Last hour"), ("86400", "24 h"), ("604800", "7 d"), ("2592000", "30 d"), ("own", "Custom"))
AGGREGATIONS = (
    ("", "Raw points"),
    ("avg", "Average"),
    ("min", "Minimum"),
    ("max", "Maximum"),
    ("sum", "Sum"),
    ("count", "Count"),
    ("median", "Median"),
    ("p95", "95th percentile"),
    ("p99", "99th percentile"),
    ("stddev", "Standard deviation"),
    ("first", "First"),
    ("last", "Last"),
    ("increase", "Increase of a counter"),
    ("rate", "Increase per second"),
)
INTERVALS = (
    ("60", "1 minute"),
    ("300", "5 minutes"),
    ("900", "15 minutes"),
    ("3600", "1 hour"),
    ("86400", "1 day"),
    ("", "The whole range"),
)
FORMATS = (("csv", "CSV"), ("jsonl", "JSON lines"), ("parquet", "Parquet"))
DIALECTS = (
    ("", "Programs: UTF-8, comma"),
    ("excel", "Excel: comma"),
    ("excel-semicolon", "Excel: semicolon, decimal comma"),
)


@require_safe
def exports(request: HttpRequest) -> HttpResponse:
    """Show the form and the list of exports; `?device=…&metric=…` of a link fill the form in."""
    context = {
        "devices": json.dumps(request.GET.getlist("device")),
        "metrics": json.dumps(request.GET.getlist("metric")),
        "ranges": RANGES,
        "aggregations": AGGREGATIONS,
        "intervals": INTERVALS,
        "formats": FORMATS,
        "dialects": DIALECTS,
    }
    return render(request, "dashboard/exports.html", context)


@require_safe
def device_names(request: HttpRequest) -> JsonResponse:
    """Return the IDs of devices that match the search."""
    ids = matching_devices(request, search_of(request)).values_list("device_id", flat=True)[:MAX_SUGGESTIONS]
    return JsonResponse({"names": list(ids)})


@require_safe
def metric_names(request: HttpRequest) -> JsonResponse:
    """Return the metrics of these devices that match the search."""
    devices = [name.replace("\0", "") for name in request.GET.getlist("device")]
    visible = Device.objects.visible_to(caller_of(request.user)).filter(device_id__in=devices)
    series = Series.objects.filter(device__in=visible, metric_name__icontains=search_of(request))
    names = series.order_by("metric_name").values_list("metric_name", flat=True).distinct()[:MAX_SUGGESTIONS]
    return JsonResponse({"names": list(names)})
