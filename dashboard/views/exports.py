"""The page that has measurements exported, and fetches them."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from dashboard.views.devices import matching
from metrics.models import Device, Series
from rest.caller import caller_of

OFFERED = 50
RANGES = (("3600", "Last hour"), ("86400", "24 h"), ("604800", "7 d"), ("2592000", "30 d"), ("own", "From … to"))
AGGREGATIONS = (
    ("", "Every point as it is"),
    ("avg", "Average"),
    ("min", "Lowest"),
    ("max", "Highest"),
    ("sum", "Sum"),
    ("count", "How many points"),
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


@login_required
@require_safe
def exports(request: HttpRequest) -> HttpResponse:
    """`?device=…&metric=…` fills them in, for links from elsewhere."""
    context = {
        "devices": request.GET.getlist("device"),
        "metrics": request.GET.getlist("metric"),
        "ranges": RANGES,
        "aggregations": AGGREGATIONS,
        "intervals": INTERVALS,
        "formats": FORMATS,
    }
    return render(request, "dashboard/exports.html", context)


@login_required
@require_safe
def device_names(request: HttpRequest) -> JsonResponse:
    """Ids of devices with these letters in id or name."""
    words = request.GET.get("q", "").replace("\0", "").strip()[:200]
    return JsonResponse({"names": list(matching(request, words).values_list("device_id", flat=True)[:OFFERED])})


@login_required
@require_safe
def metric_names(request: HttpRequest) -> JsonResponse:
    """Metrics that these devices have sent."""
    words = request.GET.get("q", "").replace("\0", "").strip()[:200]
    devices = [name.replace("\0", "") for name in request.GET.getlist("device")]
    seen = Device.objects.visible_to(caller_of(request.user)).filter(device_id__in=devices)
    series = Series.objects.filter(device__in=seen, metric_name__icontains=words)
    names = series.order_by("metric_name").values_list("metric_name", flat=True).distinct()[:OFFERED]
    return JsonResponse({"names": list(names)})
