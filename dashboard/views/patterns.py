"""The list of alert patterns."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from alerts.api.patterns import visible_patterns
from dashboard.pagination import paginate
from rest.caller import caller_of


@require_safe
def pattern_list(request: HttpRequest) -> HttpResponse:
    """Show a page of the patterns, the most certain first."""
    page = paginate(request, visible_patterns(caller_of(request.user)))
    return render(request, "dashboard/alerts/patterns.html", {"page": page})
