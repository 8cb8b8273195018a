"""Alternative URLs of ingestion endpoints, from other specifications."""

from django.urls import path

from ingest.collect_now import CollectionView, CollectView
from ingest.views import EventsView, SnapshotView

urlpatterns = [
    path("api/telemetry/snapshot", SnapshotView.as_view(schema=None)),  # documented under its other URL
    path("telemetry", EventsView.as_view()),
    path("telemetry/collect", CollectView.as_view()),
    path("telemetry/collect/<str:snapshot_id>", CollectionView.as_view()),
]
