"""Comparison of the alerts of a shadow rule and its live rule."""

from datetime import UTC, timedelta
from typing import Any

from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from alerts.api import examples
from alerts.api.alert_serializers import AlertSerializer
from alerts.api.rules import rules
from alerts.models import Rule
from alerts.rules import shadow as shadows
from rest.openapi import Tag, operation
from rest.pagination import MAX_LIMIT
from rest.permissions import caller
from rest.resources import Conflict, get_row
from rest.responses import ResponseSerializer

DEFAULT_PERIOD = timedelta(days=7)
SIDES = {
    "only_live": "Alerts of the live rule while the shadow rule had none.",
    "only_shadow": "Alerts of the shadow rule while the live rule had none.",
    "both": "Alerts of the live rule that the shadow rule also opened.",
}


class ComparisonQuerySerializer(serializers.Serializer[Any]):
    since = serializers.DateTimeField(
        required=False,
        default_timezone=UTC,
        help_text=f"Start of the compared period, at the earliest when both rules existed; {DEFAULT_PERIOD.days}"
        " days ago by default.",
    )
    limit = serializers.IntegerField(
        min_value=1, max_value=MAX_LIMIT, default=100, help_text="Maximum number of alerts in each list, latest first."
    )


class ComparisonSerializer(ResponseSerializer):
    live = serializers.CharField(help_text="ID of the live rule.")
    shadow = serializers.CharField(help_text="ID of the shadow rule.")
    since = serializers.DateTimeField()
    counts = serializers.DictField(
        child=serializers.IntegerField(), help_text="Number of alerts in each list, without the limit."
    )
    only_live = AlertSerializer(many=True, help_text=SIDES["only_live"])
    only_shadow = AlertSerializer(many=True, help_text=SIDES["only_shadow"])
    both = AlertSerializer(many=True, help_text=SIDES["both"])


class ComparisonView(APIView):
    @operation(
        "compare_shadow_rule",
        "Compare a shadow rule with its live rule",
        tag=Tag.ALERTS,
        description="Compares the alerts of devices the caller sees. Two alerts match if they were open at the same"
        " time for"
        " the same device and metric.",
        query=ComparisonQuerySerializer,
        response=ComparisonSerializer,
        errors=(404, 409),
        request_example={"limit": 10},
        response_example={
            "live": "rule_0123456789abcdef",
            "shadow": "rule_fedcba9876543210",
            "since": "2025-12-11T10:00:00Z",
            "counts": {"only_live": 1, "only_shadow": 0, "both": 0},
            "only_live": [examples.ALERT],
            "only_shadow": [],
            "both": [],
        },
    )
    def get(self, request: Request, rule_id: str) -> Response:
        query = ComparisonQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        since, limit = query.validated_data.get("since", timezone.now() - DEFAULT_PERIOD), query.validated_data["limit"]
        shadow: Rule = get_row(rules(caller(request)), rule_id=rule_id)
        if shadow.shadow_of is None:
            raise Conflict(f"{rule_id} is not a shadow rule: only shadow rules can be compared")
        result = shadows.compare(shadow.shadow_of, shadow, since, caller(request))
        body = {"live": shadow.shadow_of.rule_id, "shadow": rule_id, "since": result.since, "counts": result.counts()}
        for name in SIDES:
            alerts = getattr(result, name).select_related("rule", "incident")[:limit]
            body[name] = AlertSerializer(alerts, many=True).data
        return Response(body)
