"""The time zone of the pages: the one that the user chose, else that of the browser, else UTC."""

from zoneinfo import available_timezones

from django.http import HttpRequest

CHOSEN_COOKIE = "telemetry_time_zone"
BROWSER_COOKIE = "telemetry_browser_time_zone"  # static/dashboard/page.js sets it
TIME_ZONES = frozenset(available_timezones())


def zone_of(request: HttpRequest) -> str:
    """Return the name of the time zone in which the pages of a request show times."""
    return chosen_zone(request) or _known(request, BROWSER_COOKIE) or "UTC"


def chosen_zone(request: HttpRequest) -> str:
    """Return the time zone of the user's settings; empty where the browser's is used."""
    return _known(request, CHOSEN_COOKIE)


def _known(request: HttpRequest, cookie: str) -> str:
    name = request.COOKIES.get(cookie, "")
    return name if name in TIME_ZONES else ""
