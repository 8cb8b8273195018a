"""The list of alert patterns."""

from dataclasses import dataclass
from datetime import datetime

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from alerts.api.patterns import visible_patterns
from alerts.models import Pattern
from dashboard.number_format import duration_text
from dashboard.pagination import paginate
from rest.caller import caller_of

MAX_DEVICES = 10  # named per pattern


@dataclass(frozen=True, slots=True)
class PatternRow:
    """A pattern with its values in words."""

    pattern: Pattern
    now: datetime

    @property
    def kind(self) -> str:
        return self.pattern.kind.replace("_", " ").capitalize()

    @property
    def confidence(self) -> str:
        return f"{self.pattern.confidence:.0%}"

    @property
    def devices(self) -> list[str]:
        return self.pattern.devices[:MAX_DEVICES]

    @property
    def hidden_devices(self) -> int:
        return max(0, len(self.pattern.devices) - MAX_DEVICES)

    @property
    def age(self) -> str:
        return duration_text((self.now - self.pattern.found_at).total_seconds())


@login_required
@require_safe
def pattern_list(request: HttpRequest) -> HttpResponse:
    """Show a page of the patterns, the most certain first."""
    page, now = paginate(request, visible_patterns(caller_of(request.user))), timezone.now()
    context = {"rows": [PatternRow(pattern, now) for pattern in page.rows], "page": page}
    return render(request, "dashboard/alerts/patterns.html", context)
