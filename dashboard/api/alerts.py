"""`GET /alerts` and `GET /patterns` at the root of the site: plain lists without pages."""

from typing import Any

from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from alerts.api import examples
from alerts.api.alert_serializers import AlertSerializer, visible_alerts
from alerts.api.patterns import PatternSerializer, visible_patterns
from rest.openapi import Tag, operation
from rest.pagination import DEFAULT_LIMIT, MAX_LIMIT
from rest.permissions import caller


class LimitParameters(serializers.Serializer[Any]):
    limit = serializers.IntegerField(
        min_value=1, max_value=MAX_LIMIT, default=DEFAULT_LIMIT, help_text="Maximum number of rows."
    )


def _first_rows(request: Request, rows: QuerySet[Any]) -> QuerySet[Any]:
    parameters = LimitParameters(data=request.query_params)
    parameters.is_valid(raise_exception=True)
    return rows[: parameters.validated_data["limit"]]


class RecentAlertsView(APIView):
    @operation(
        "list_recent_alerts",
        "The latest alerts",
        tag=Tag.ALERTS,
        description="Alerts of the devices that the caller sees, newest first, as a plain list.",
        query=LimitParameters,
        response=AlertSerializer(many=True),
        request_example={"limit": 10},
        response_example=examples.ALERT,
    )
    def get(self, request: Request) -> Response:
        latest = _first_rows(request, visible_alerts(caller(request)).filter(shadow=False))
        return Response(AlertSerializer(latest, many=True).data)


class RecentPatternsView(APIView):
    @operation(
        "list_recent_patterns",
        "Patterns of alerts, the highest confidence first",
        tag=Tag.ALERTS,
        description="Patterns whose devices are all visible to the caller, as a plain list.",
        query=LimitParameters,
        response=PatternSerializer(many=True),
        request_example={"limit": 10},
        response_example=examples.PATTERN,
    )
    def get(self, request: Request) -> Response:
        patterns = _first_rows(request, visible_patterns(caller(request)))
        return Response(PatternSerializer(patterns, many=True).data)
