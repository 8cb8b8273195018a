"""Addresses that other documents give: the same doors under other names."""

from django.urls import path

from ingest.collect_now import CollectView
from ingest.views import EventsView, SnapshotView

urlpatterns = [
    path("api/telemetry/snapshot", SnapshotView.as_view(schema=None)),  # described under its other address
    path("telemetry", EventsView.as_view()),
    path("telemetry/collect", CollectView.as_view()),
]
