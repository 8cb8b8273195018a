from django.urls import path

from ingest.agents.views import AgentConfigurationView
from ingest.collection.api.collectors import AnnotationResource, CollectionResource, CollectorResource
from ingest.collection.api.deployment_webhook import DeploymentWebhookView
from ingest.identity.key_views import KeyResource
from ingest.identity.token_views import RefreshView, RevokeView, TokenView
from ingest.rejected.views import RejectedResource
from ingest.views import BatchView, BulkIngestView, PointView, SnapshotView
from rest.resources import COLLECTION, ITEM, LIST

urlpatterns = [
    path("bulk", BulkIngestView.as_view()),
    path("devices/<name:device_id>/telemetry", PointView.as_view()),
    path("devices/<name:device_id>/telemetry/batch", BatchView.as_view()),
    path("devices/<name:device_id>/agent", AgentConfigurationView.as_view()),
    path("auth/token", TokenView.as_view()),
    path("auth/refresh", RefreshView.as_view()),
    path("auth/revoke", RevokeView.as_view()),
    path("keys", KeyResource.as_view(COLLECTION)),
    path("keys/<int:key_id>", KeyResource.as_view(ITEM)),
    path("keys/<int:key_id>/rotate", KeyResource.as_view({"post": "rotate"})),
    path("keys/<int:key_id>/revoke", KeyResource.as_view({"post": "revoke"})),
    path("collectors", CollectorResource.as_view(COLLECTION)),
    path("collectors/<id:collector_id>", CollectorResource.as_view(ITEM)),
    path("collectors/<id:collector_id>/run", CollectorResource.as_view({"post": "run"})),
    path("collectors/<id:collector_id>/collections", CollectionResource.as_view(LIST)),
    path("collectors/<id:collector_id>/deployments", DeploymentWebhookView.as_view()),
    path("devices/<name:device_id>/annotations", AnnotationResource.as_view(LIST)),
    path("snapshot", SnapshotView.as_view()),
    path("rejected", RejectedResource.as_view(LIST)),
    path("rejected/replay", RejectedResource.as_view({"post": "replay_all"})),
    path("rejected/<int:number>", RejectedResource.as_view({"get": "retrieve", "delete": "destroy"})),
    path("rejected/<int:number>/replay", RejectedResource.as_view({"post": "replay"})),
]
