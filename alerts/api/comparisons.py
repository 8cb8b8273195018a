"""What a shadow has found beside the rule that it is tried for."""

from datetime import UTC, timedelta
from typing import Any

from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from alerts.api import examples
from alerts.api.alert_shapes import AlertSerializer
from alerts.api.checking import Conflict, found_by
from alerts.api.rules import known_rules
from alerts.models import Rule
from alerts.rules import shadow as shadows
from rest.openapi import Answer, Tag, operation
from rest.pagination import MOST
from rest.permissions import caller

LOOKED_BACK = timedelta(days=7)
SIDES = {
    "only_live": "Alerts of the live rule at times at which the shadow had none.",
    "only_shadow": "Alerts of the shadow at times at which the live rule had none.",
    "both": "Alerts of the live rule that the shadow had too.",
}


class ComparisonParameters(serializers.Serializer[Any]):
    since = serializers.DateTimeField(
        required=False,
        default_timezone=UTC,
        help_text=f"Alerts that were open then or since, and since both were there; {LOOKED_BACK.days} days ago.",
    )
    limit = serializers.IntegerField(
        min_value=1, max_value=MOST, default=100, help_text="Most alerts of each list, the latest first."
    )


class Comparison(Answer):
    live = serializers.CharField(help_text="The rule_id of the rule that notifies.")
    shadow = serializers.CharField(help_text="The rule_id of what is tried.")
    since = serializers.DateTimeField()
    counts = serializers.DictField(child=serializers.IntegerField(), help_text="How many there are of each.")
    only_live = AlertSerializer(many=True, help_text=SIDES["only_live"])
    only_shadow = AlertSerializer(many=True, help_text=SIDES["only_shadow"])
    both = AlertSerializer(many=True, help_text=SIDES["both"])


class ComparisonView(APIView):
    @operation(
        "compare_shadow_rule",
        "What a shadow has found beside its rule",
        tag=Tag.ALERTS,
        description="Of the alerts of devices that the caller sees. Alerts of both that were open at the same time, of"
        " the same device and metric, are the same to it.",
        query=ComparisonParameters,
        answer=Comparison,
        errors=(404, 409),
        asked={"limit": 10},
        answered={
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
        given = ComparisonParameters(data=request.query_params)
        given.is_valid(raise_exception=True)
        since, limit = given.validated_data.get("since", timezone.now() - LOOKED_BACK), given.validated_data["limit"]
        shadow: Rule = found_by(known_rules(), rule_id=rule_id)
        if shadow.shadow_of is None:
            raise Conflict(f"{rule_id} is no shadow: only what is tried for another rule can be compared with it")
        found = shadows.compare(shadow.shadow_of, shadow, since, caller(request))
        told = {"live": shadow.shadow_of.rule_id, "shadow": rule_id, "since": found.since, "counts": found.counts()}
        rows = {name: getattr(found, name).select_related("rule", "incident")[:limit] for name in SIDES}
        return Response(told | {name: AlertSerializer(some, many=True).data for name, some in rows.items()})
