"""The time zone of the pages, for views, templates and forms."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from dashboard.time_zone import zone_of
from telemetry_site.middleware.base import ResponseMiddleware

PAGES = ("dashboard", "admin")  # namespaces; the API answers in UTC


class PageTimeZone(ResponseMiddleware):
    """Activates the user's time zone for the pages, those of the administration too."""

    def process_view(self, request: HttpRequest, view: Callable[..., Any], *_: Any) -> None:
        """Activate the time zone before a view of a page."""
        if request.resolver_match is not None and request.resolver_match.namespace in PAGES:
            timezone.activate(zone_of(request))

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Deactivate the time zone."""
        timezone.deactivate()
        return response
