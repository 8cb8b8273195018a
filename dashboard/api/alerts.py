"""`GET /alerts` and `GET /patterns` as the alerting document has them: plain lists."""

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from alerts.api import examples
from alerts.api.alert_shapes import AlertSerializer, chosen
from alerts.api.patterns import PatternSerializer, visible_patterns
from rest.openapi import Tag, operation
from rest.pagination import DEFAULT, MOST
from rest.permissions import caller


class Limit(serializers.Serializer[Any]):
    limit = serializers.IntegerField(min_value=1, max_value=MOST, default=DEFAULT, help_text="Most rows.")


def _limit(request: Request) -> int:
    given = Limit(data=request.query_params)
    given.is_valid(raise_exception=True)
    limit: int = given.validated_data["limit"]
    return limit


class RecentAlertsView(APIView):
    @operation(
        "list_recent_alerts",
        "The latest alerts",
        tag=Tag.ALERTS,
        description="Of the devices that the caller sees, by when they were triggered: the list alone.",
        query=Limit,
        answer=AlertSerializer(many=True),
        asked={"limit": 10},
        answered=examples.ALERT,
    )
    def get(self, request: Request) -> Response:
        latest = chosen(caller(request), {"shadow": False})[: _limit(request)]
        return Response(AlertSerializer(latest, many=True).data)


class RecentPatternsView(APIView):
    @operation(
        "list_recent_patterns",
        "What alerts do again and again, the most certain first",
        tag=Tag.ALERTS,
        description="Patterns about devices all of which the caller sees: the list alone.",
        query=Limit,
        answer=PatternSerializer(many=True),
        asked={"limit": 10},
        answered=examples.PATTERN,
    )
    def get(self, request: Request) -> Response:
        found = visible_patterns(caller(request))[: _limit(request)]
        return Response(PatternSerializer(found, many=True).data)
