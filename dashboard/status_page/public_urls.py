"""Addresses of the public pages: of a page by slug, of the oldest published one, and of the page of a host name."""

from django.urls import URLPattern, URLResolver, include, path

from dashboard.status_page import public_views, subscription_views
from dashboard.status_page.statuspage_json import DOCUMENTS

page_patterns: list[URLPattern | URLResolver] = [
    path("", public_views.page, name="page"),
    path("history/", public_views.history, name="history"),
    path("incidents/<id:incident_id>/", public_views.incident, name="incident"),
    path("feed.atom", public_views.feed, {"kind": "atom"}, name="atom"),
    path("feed.rss", public_views.feed, {"kind": "rss"}, name="rss"),
    path("maintenance.ics", public_views.calendar, name="calendar"),
    path("badge.svg", public_views.page_badge, name="badge"),
    path("badge/<id:component_id>.svg", public_views.page_badge, name="component_badge"),
    path("subscribe/", subscription_views.subscribe, name="subscribe"),
    path("confirm/<id:token>/", subscription_views.confirm, name="confirm"),
    path("unsubscribe/<id:token>/", subscription_views.unsubscribe, name="unsubscribe"),
    *(path(f"api/v2/{name}.json", public_views.document, {"path": name}) for name in DOCUMENTS),
]

app_name = "status"
urlpatterns = [*page_patterns, path("<slug:slug>/", include(page_patterns))]
