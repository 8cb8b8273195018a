"""Webhook that receives the states of deployments. It has the token of its collector, not an API key."""

import hmac
from typing import Any

from django.utils import timezone
from rest_framework import serializers
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from ingest.authentication import CHALLENGE
from ingest.collection.annotations import store_webhook
from ingest.collection.kinds.deployments import WEBHOOK_TOKEN, DeploymentsKind
from ingest.collection.models import Collector
from ingest.collectors.formats.deployment_state import read_deployments
from ingest.collectors.reading import CollectFailed
from rest.errors import InvalidField
from rest.openapi import Tag, operation
from rest.parsers import JSONParser
from rest.responses import ResponseSerializer


class DeploymentSerializer(ResponseSerializer):
    deployment_id = serializers.CharField(required=False, help_text="The same in every state; the version if missing.")
    version = serializers.CharField(help_text="Version that is deployed.")
    state = serializers.CharField(help_text="State that the deployment reached.")
    updated_at = serializers.DateTimeField(required=False, help_text="When; the time of the request if missing.")


class StoredDeploymentsSerializer(ResponseSerializer):
    success = serializers.BooleanField()
    stored = serializers.IntegerField(help_text="States that were new.")


class DeploymentWebhookView(APIView):
    authentication_classes = []
    permission_classes = [AllowAny]
    parser_classes = [JSONParser]

    def get_authenticate_header(self, request: Request) -> str:
        return CHALLENGE

    @operation(
        "report_deployment",
        "Report the state of a deployment",
        tag=Tag.COLLECTORS,
        description="Stores the state of a deployment, or of each in a list, as an annotation of the collector's device"
        " and as its metrics. The secret `webhook_token` of the collector is sent as `Authorization: Bearer …`; API"
        " keys are not accepted. A state that was reported before is not stored again.",
        request=DeploymentSerializer,
        response=StoredDeploymentsSerializer,
        errors=(401, 422, 429, 503),
        public=True,
        request_example={"deployment_id": "d-17", "version": "1.4.2", "state": "completed"},
        response_example={"success": True, "stored": 1},
    )
    def post(self, request: Request, collector_id: str) -> Response:
        collector = _authenticated_collector(request, collector_id)
        path = collector.configuration.get("path", "$")
        body: Any = request.data
        try:
            deployments = read_deployments(body, path)
        except CollectFailed as invalid:
            raise InvalidField("deployment", str(invalid)) from None
        stored = store_webhook(collector, deployments, timezone.now())
        return Response({"success": True, "stored": stored})


def _authenticated_collector(request: Request, collector_id: str) -> Collector:
    """Return the collector whose token the request has. An unknown collector is answered like a wrong token."""
    collector = Collector.objects.filter(collector_id=collector_id, kind=DeploymentsKind.name).first()
    token = collector.secrets.get(WEBHOOK_TOKEN, "") if collector is not None else ""
    scheme, _, sent = request.headers.get("Authorization", "").partition(" ")
    is_valid = hmac.compare_digest(sent.strip().encode(), token.encode()) and scheme.lower() == "bearer"
    if collector is None or not token or not is_valid:
        raise AuthenticationFailed("the token of the collector is required")
    return collector
