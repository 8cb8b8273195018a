"""Context of every page: navigation, open alerts, permissions and the theme."""

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import SimpleLazyObject
from django.utils.safestring import SafeString

from dashboard.live_subscription import LIVE_PATH
from dashboard.open_alert_counts import OpenAlertCounts
from rest.caller import Scope, caller_of

API_URL = "/api/v1/telemetry"
THEMES = ("light", "dark")
MAIN = (("overview", "Overview", "gauge"), ("alerts", "Alerts", "bell"), ("devices", "Devices", "device"))
MORE = (
    ("rules", "Rules", "rule"),
    ("silences", "Silences", "bell-off"),
    ("patterns", "Patterns", "explore"),
    ("channels", "Channels", "send"),
    ("exports", "Exports", "down"),
    ("rejected", "Rejected", "inbox"),
)
FOR_OPERATORS = ("channels",)
# The section that a page without an entry of its own belongs to.
PARENTS = {
    "alert": "alerts",
    "device": "devices",
    "rule": "rules",
    "new_rule": "rules",
    "channel": "channels",
    "new_channel": "channels",
    "route": "channels",
    "new_route": "channels",
}


@dataclass(frozen=True, slots=True)
class NavigationItem:
    """An entry of the menu."""

    name: str
    label: str
    icon: str
    page_name: str

    @property
    def url(self) -> str:
        return reverse(f"dashboard:{self.name}")

    @property
    def current(self) -> SafeString:
        """The attribute that marks the entry of the page, or of the page's section."""
        if self.page_name == self.name:
            return SafeString('aria-current="page"')
        return SafeString('aria-current="true"' if PARENTS.get(self.page_name) == self.name else "")


def page_context(request: HttpRequest) -> dict[str, Any]:
    """Return the context of every page. Values from the database are lazy: error pages must not query it."""

    def can(scope: Scope) -> bool:
        return request.user.is_authenticated and caller_of(request.user).may(scope)

    def open_alerts() -> OpenAlertCounts:
        if not request.user.is_authenticated:
            return OpenAlertCounts({}, {})
        return OpenAlertCounts.visible_to(caller_of(request.user))

    def navigation() -> dict[str, list[NavigationItem]]:
        page_name = request.resolver_match.url_name or "" if request.resolver_match else ""
        more = [entry for entry in MORE if entry[0] not in FOR_OPERATORS or can(Scope.OPERATE)]
        entries = {"main": MAIN, "more": more}
        return {name: [NavigationItem(*entry, page_name) for entry in part] for name, part in entries.items()}

    theme = request.COOKIES.get("telemetry_theme", "")
    return {
        "api_url": API_URL,
        "live_url": f"/{LIVE_PATH}",
        "theme": theme if theme in THEMES else "",
        "open_alerts": SimpleLazyObject(open_alerts),
        "can_operate": SimpleLazyObject(lambda: can(Scope.OPERATE)),
        "can_administer": SimpleLazyObject(lambda: can(Scope.ADMIN)),
        "navigation": SimpleLazyObject(navigation),
    }
