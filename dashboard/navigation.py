"""Context of every page: navigation, open alerts, permissions, the theme and the time zone."""

from typing import Any

from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject
from django.utils.timezone import get_current_timezone_name

from dashboard.open_alert_counts import OpenAlertCounts
from metrics.storage.disk_space import is_disk_full
from rest.caller import Scope, caller_of

API_URL = "/api/v1/telemetry"
LIVE_URL, LIVE_EVENTS_URL = "/ws/live", "/sse/live"
THEMES = ("light", "dark")
# The name of the page, which is its first part in paths too, the label and the icon of each entry of the menu.
MAIN = (("overview", "Overview", "gauge"), ("alerts", "Alerts", "bell"), ("devices", "Devices", "device"))
MORE = (
    ("rules", "Rules", "rule"),
    ("silences", "Silences", "bell-off"),
    ("patterns", "Patterns", "explore"),
    ("channels", "Channels", "send"),
    ("status-pages", "Status pages", "screen"),
    ("collectors", "Collectors", "clock"),
    ("exports", "Exports", "down"),
    ("rejected", "Rejected", "inbox"),
)
FOR_OPERATORS = ("channels", "status-pages")


def page_context(request: HttpRequest) -> dict[str, Any]:
    """Return the context of every page. Values from the database are lazy: error pages must not query it."""

    def can(scope: Scope) -> bool:
        return request.user.is_authenticated and caller_of(request.user).may(scope)

    def open_alerts() -> OpenAlertCounts:
        if not request.user.is_authenticated:
            return OpenAlertCounts({}, {})
        return OpenAlertCounts.visible_to(caller_of(request.user))

    def in_no_group() -> bool:
        return request.user.is_authenticated and caller_of(request.user).groups == ()

    def navigation() -> dict[str, Any]:
        return {"main": MAIN, "more": [entry for entry in MORE if entry[0] not in FOR_OPERATORS or can(Scope.OPERATE)]}

    theme = request.COOKIES.get("telemetry_theme", "")
    return {
        "api_url": API_URL,
        "live_url": LIVE_URL,
        "live_events_url": LIVE_EVENTS_URL,
        "disk_full": is_disk_full(),
        "time_zone": get_current_timezone_name(),
        "theme": theme if theme in THEMES else "",
        "open_alerts": SimpleLazyObject(open_alerts),
        "in_no_group": SimpleLazyObject(in_no_group),
        "can_operate": SimpleLazyObject(lambda: can(Scope.OPERATE)),
        "can_administer": SimpleLazyObject(lambda: can(Scope.ADMIN)),
        "navigation": SimpleLazyObject(navigation),
    }
