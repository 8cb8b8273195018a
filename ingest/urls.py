from django.urls import path

from ingest.identity.key_views import KeyResource
from ingest.identity.token_views import RefreshView, RevokeView, TokenView
from ingest.rejected import views as rejected
from ingest.views import BatchView, BulkIngestView, PointView, SnapshotView
from rest.resources import COLLECTION, ITEM

urlpatterns = [
    path("bulk", BulkIngestView.as_view()),
    path("devices/<path:device_id>/telemetry", PointView.as_view()),
    path("devices/<path:device_id>/telemetry/batch", BatchView.as_view()),
    path("auth/token", TokenView.as_view()),
    path("auth/refresh", RefreshView.as_view()),
    path("auth/revoke", RevokeView.as_view()),
    path("keys", KeyResource.as_view(COLLECTION)),
    path("keys/<int:key_id>", KeyResource.as_view(ITEM)),
    path("keys/<int:key_id>/rotate", KeyResource.as_view({"post": "rotate"})),
    path("keys/<int:key_id>/revoke", KeyResource.as_view({"post": "revoke"})),
    path("snapshot", SnapshotView.as_view()),
    path("rejected", rejected.RejectedView.as_view()),
    path("rejected/replay", rejected.ReplayView.as_view()),
    path("rejected/<int:number>", rejected.RejectedRowView.as_view()),
    path("rejected/<int:number>/replay", rejected.ReplayRowView.as_view()),
]
