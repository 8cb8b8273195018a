from django.urls import path

from ingest.identity.key_views import KeysView, KeyView, RevokeKeyView, RotateKeyView
from ingest.identity.token_views import RefreshView, RevokeView, TokenView
from ingest.rejected import views as rejected
from ingest.views import BatchView, BulkIngestView, PointView, SnapshotView

urlpatterns = [
    path("bulk", BulkIngestView.as_view()),
    path("devices/<path:device_id>/telemetry", PointView.as_view()),
    path("devices/<path:device_id>/telemetry/batch", BatchView.as_view()),
    path("auth/token", TokenView.as_view()),
    path("auth/refresh", RefreshView.as_view()),
    path("auth/revoke", RevokeView.as_view()),
    path("keys", KeysView.as_view()),
    path("keys/<int:key_id>", KeyView.as_view()),
    path("keys/<int:key_id>/rotate", RotateKeyView.as_view()),
    path("keys/<int:key_id>/revoke", RevokeKeyView.as_view()),
    path("snapshot", SnapshotView.as_view()),
    path("rejected", rejected.RejectedView.as_view()),
    path("rejected/replay", rejected.ReplayView.as_view()),
    path("rejected/<int:number>", rejected.RejectedRowView.as_view()),
    path("rejected/<int:number>/replay", rejected.ReplayRowView.as_view()),
]
