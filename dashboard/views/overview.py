"""The first page: how everything is, and one chart that moves."""

from collections.abc import Sequence

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from dashboard.device_overview import Seen, Situation, interest, see
from dashboard.device_state import OK
from dashboard.open_alert_counts import Tally
from dashboard.views.alerts import open_rows
from metrics.models import Device
from metrics.query import latest
from rest.caller import Caller, caller_of

# Up to this many devices the page reads and judges all of them; of more, those heard last.
SMALL_FLEET = 200
ROWS = 20
CHART_RANGES = (("5m", "5 min"), ("15m", "15 min"), ("1h", "1 h"), ("6h", "6 h"), ("24h", "24 h"))


def situation(caller: Caller) -> Situation:
    now = timezone.now()
    seen = Device.objects.visible_to(caller)
    total = seen.count()
    devices = seen.order_by("-created_at", "device_id")
    if total > SMALL_FLEET and (alive := latest.find_recently_active_devices(SMALL_FLEET, caller.groups)):
        devices = devices.filter(device_id__in=alive)
    rows = see(devices[:SMALL_FLEET], now)
    # Worst first, then the last heard, so that the device that just began to send stands on top of its kind.
    rows.sort(key=lambda row: (row.state.rank, -row.quiet_since, row.device.device_id))
    return Situation(rows, total, now)


def most_telling(rows: Sequence[Seen]) -> Seen | None:
    """The device to chart: of those reporting the one with the most telling metric, else the one heard last.

    Not simply the one heard last: where many report every few seconds, each reload would show another.
    """
    able = [row for row in rows if row.drawable]
    reporting = [row for row in able if row.state is OK]
    if reporting:
        return min(reporting, key=lambda row: (interest(row.drawable[0].metric_name)[0], row.device.device_id))
    return max(able, key=lambda row: row.quiet_since, default=None)


@login_required
@require_safe
def overview(request: HttpRequest) -> HttpResponse:
    caller = caller_of(request.user)
    now, tally = situation(caller), Tally.of(caller)
    charted = most_telling(now.rows)
    context = {
        "situation": now,
        "alerts": tally,
        "alert_rows": open_rows(caller, 1) if tally.open else [],
        "rows": now.rows[:ROWS],
        "more": now.total > ROWS,
        "charted": charted,
        "reading": charted.drawable[0] if charted else None,
        "empty": now.complete and now.newest is None,
        "ranges": CHART_RANGES,
        "address": request.build_absolute_uri("/").rstrip("/"),
    }
    return render(request, "dashboard/overview.html", context)


@login_required
@require_safe
def situation_part(request: HttpRequest) -> HttpResponse:
    """The sentence alone: the page asks for it when a device changes its state, so that words are made in one place."""
    return render(request, "dashboard/_situation.html", {"situation": situation(caller_of(request.user))})


@login_required
@require_safe
def alert_situation(request: HttpRequest) -> HttpResponse:
    """The sentence on what is open, alone, and how many alerts need someone; nothing where nothing is open."""
    caller = caller_of(request.user)
    tally = Tally.of(caller)
    rows = open_rows(caller, 1) if tally.open else []
    context = {"alert_rows": rows, "alerts": tally}
    answer = render(request, "dashboard/alerts/_situation.html", context) if rows else HttpResponse("")
    answer["X-Waiting"] = str(tally.waiting)
    return answer
