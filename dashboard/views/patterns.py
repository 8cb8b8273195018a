"""What alerts do again and again, the most certain first."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from alerts.api.patterns import visible_patterns
from dashboard.number_format import duration_text
from rest.caller import caller_of

PAGE = 50
FARTHEST = 10_000
DEVICES = 10  # that are named of each


@login_required
@require_safe
def pattern_list(request: HttpRequest) -> HttpResponse:
    """A page of patterns that are about devices which whoever asks sees."""
    given = request.GET.get("from", "0")
    start = min(int(given), FARTHEST) if given.isascii() and given.isdigit() and len(given) < 10 else 0
    found = list(visible_patterns(caller_of(request.user))[start : start + PAGE + 1])
    now = timezone.now()
    rows = [
        {
            "pattern": one,
            "kind": one.kind.replace("_", " ").capitalize(),
            "share": f"{one.confidence:.0%}",
            "devices": one.devices[:DEVICES],
            "more": max(0, len(one.devices) - DEVICES),
            "age": duration_text((now - one.found_at).total_seconds()),
        }
        for one in found[:PAGE]
    ]
    context = {"rows": rows, "start": start, "next": start + PAGE if len(found) > PAGE else None}
    return render(request, "dashboard/alerts/patterns.html", context)
