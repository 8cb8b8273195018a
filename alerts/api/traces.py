"""Why a rule fired, or why it did not."""

from datetime import UTC
from typing import Any

from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from alerts.api.alerts import visible_alert
from alerts.api.checking import Conflict, found_by
from alerts.api.rules import known_rules
from alerts.history.trace import EvaluationTrace, trace_evaluation
from alerts.models import Rule
from metrics.models import Device
from rest.openapi import Answer, Tag, operation
from rest.permissions import caller

_ANSWERED = {
    "fired": False,
    "verdict": "It did not fire: trigger count: 2 of 3 breaches within 300 s.",
    "alert_id": None,
    "steps": [
        {"name": "Rule", "state": "yes", "detail": "version 1, in force since 2025-12-11 10:00:00 UTC"},
        {"name": "Trigger count", "state": "no", "detail": "2 of 3 breaches within 300 s"},
    ],
    "values": [{"timestamp": "2025-12-18T10:00:00Z", "value": 93.5, "breach": True}],
}


class TraceParameters(serializers.Serializer[Any]):
    device_id = serializers.CharField(help_text="Of this device.")
    at = serializers.DateTimeField(required=False, default_timezone=UTC, help_text="At this moment; now.")


class TraceStep(Answer):
    name = serializers.CharField(help_text="What evaluation asked.")
    state = serializers.ChoiceField(["yes", "no", "note"], help_text="Whether that spoke for an alert.")
    detail = serializers.CharField()


class TraceValue(Answer):
    timestamp = serializers.DateTimeField()
    value = serializers.FloatField(allow_null=True, help_text="What was compared; null where that cannot be told.")
    breach = serializers.BooleanField()


class TraceAnswer(Answer):
    fired = serializers.BooleanField(help_text="Whether there was an alert at that moment.")
    verdict = serializers.CharField(help_text="In one sentence.")
    alert_id = serializers.CharField(allow_null=True)
    steps = TraceStep(many=True, help_text="In the order in which evaluation takes them.")
    values = TraceValue(many=True, help_text="Of the window, the newest last.")


class RuleTraceView(APIView):
    @operation(
        "trace_alert_rule",
        "Why a rule did, or did not, fire",
        tag=Tag.ALERTS,
        description="Of a device at a moment, told from the measurements that are stored, by the version of the rule"
        " that was in force: values, count, cooldown, silence and deliveries.",
        query=TraceParameters,
        answer=TraceAnswer,
        errors=(404, 422),
        asked={"device_id": "device_001"},
        answered=_ANSWERED,
    )
    def get(self, request: Request, rule_id: str) -> Response:
        given = TraceParameters(data=request.query_params)
        given.is_valid(raise_exception=True)
        rule: Rule = found_by(known_rules(), rule_id=rule_id)
        seen = Device.objects.visible_to(caller(request))
        device: Device = found_by(seen, device_id=given.validated_data["device_id"])
        return Response(
            _shape(trace_evaluation(rule, device, given.validated_data.get("at", timezone.now()), caller(request)))
        )


class AlertTraceView(APIView):
    @operation(
        "trace_alert",
        "Why an alert fired",
        tag=Tag.ALERTS,
        description="The same of an alert, at the moment at which it was triggered.",
        answer=TraceAnswer,
        errors=(404, 409, 422),
        answered=_ANSWERED,
    )
    def get(self, request: Request, alert_id: str) -> Response:
        alert = visible_alert(request, alert_id)
        if alert.rule is None or alert.device is None:
            raise Conflict(f"{alert_id}: its rule or its device is gone, and with it what could be told")
        return Response(_shape(trace_evaluation(alert.rule, alert.device, alert.triggered_at, caller(request))))


def _shape(found: EvaluationTrace) -> dict[str, Any]:
    return {
        "fired": found.fired,
        "verdict": found.verdict,
        "alert_id": found.alert.alert_id if found.alert is not None else None,
        "steps": [{"name": one.label, "state": one.state, "detail": one.detail} for one in found.steps],
        "values": [{"timestamp": at, "value": value, "breach": breach} for at, value, breach in found.values],
    }
