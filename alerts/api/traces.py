"""Evaluation traces: why a rule opened an alert, or why not."""

from datetime import UTC
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from alerts.api.alert_serializers import visible_alerts
from alerts.api.rules import rules
from alerts.history.trace import EvaluationTrace, trace_evaluation
from alerts.models import Alert, Rule
from metrics.models import Device
from rest.openapi import Tag, operation
from rest.permissions import caller
from rest.resources import Conflict, get_row
from rest.responses import ResponseSerializer

EXAMPLE_TRACE = {
    "fired": False,
    "verdict": "It did not fire: trigger count: 2 of 3 breaches within 300 s.",
    "alert_id": None,
    "steps": [
        {"name": "Rule", "state": "yes", "detail": "version 1, in force since 2025-12-11 10:00:00 UTC"},
        {"name": "Trigger count", "state": "no", "detail": "2 of 3 breaches within 300 s"},
    ],
    "values": [{"timestamp": "2025-12-18T10:00:00Z", "value": 93.5, "breach": True}],
}


class TraceQuerySerializer(serializers.Serializer[Any]):
    device_id = serializers.CharField(help_text="Device ID.")
    at = serializers.DateTimeField(
        required=False, default_timezone=UTC, help_text="Time of the evaluation; now by default."
    )


class TraceStepSerializer(ResponseSerializer):
    name = serializers.CharField(help_text="Name of the check.")
    state = serializers.ChoiceField(
        ["yes", "no", "note"], help_text="Result: `yes` favors an alert, `no` prevents it, `note` is information."
    )
    detail = serializers.CharField()


class TraceValueSerializer(ResponseSerializer):
    timestamp = serializers.DateTimeField()
    value = serializers.FloatField(allow_null=True, help_text="Evaluated value; null if it is unknown.")
    breach = serializers.BooleanField()


@extend_schema_serializer(component_name="TraceAnswer")
class TraceSerializer(ResponseSerializer):
    fired = serializers.BooleanField(help_text="Whether an alert was open at that time.")
    verdict = serializers.CharField(help_text="Summary in one sentence.")
    alert_id = serializers.CharField(allow_null=True)
    steps = TraceStepSerializer(many=True, help_text="Checks in the order of evaluation.")
    values = TraceValueSerializer(many=True, help_text="Values of the evaluation window, newest last.")


class RuleTraceView(APIView):
    @operation(
        "trace_alert_rule",
        "Trace the evaluation of a rule",
        tag=Tag.ALERTS,
        description="Evaluates a rule for one device at one time, from stored points and the version of the rule at"
        " that"
        " time, and returns each check: values, count, cooldown, silences and deliveries.",
        query=TraceQuerySerializer,
        response=TraceSerializer,
        errors=(404, 422),
        request_example={"device_id": "device_001"},
        response_example=EXAMPLE_TRACE,
    )
    def get(self, request: Request, rule_id: str) -> Response:
        query = TraceQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        rule: Rule = get_row(rules(caller(request)), rule_id=rule_id)
        devices = Device.objects.visible_to(caller(request))
        device: Device = get_row(devices, device_id=query.validated_data["device_id"])
        at = query.validated_data.get("at", timezone.now())
        return Response(_serialize(trace_evaluation(rule, device, at, caller(request))))


class AlertTraceView(APIView):
    @operation(
        "trace_alert",
        "Trace the evaluation of an alert",
        tag=Tag.ALERTS,
        description="Returns the evaluation trace of the alert at the time it was triggered.",
        response=TraceSerializer,
        errors=(404, 409, 422),
        response_example=EXAMPLE_TRACE,
    )
    def get(self, request: Request, alert_id: str) -> Response:
        alert: Alert = get_row(visible_alerts(caller(request)), alert_id=alert_id)
        if alert.rule is None or alert.device is None:
            raise Conflict(f"{alert_id} cannot be traced: its rule or its device was deleted")
        return Response(
            _serialize(trace_evaluation(alert.rule, alert.device, alert.triggered_at, caller(request), alert))
        )


def _serialize(result: EvaluationTrace) -> dict[str, Any]:
    return {
        "fired": result.fired,
        "verdict": result.verdict,
        "alert_id": result.alert.alert_id if result.alert is not None else None,
        "steps": [{"name": step.label, "state": step.state, "detail": step.detail} for step in result.steps],
        "values": [{"timestamp": at, "value": value, "breach": breach} for at, value, breach in result.values],
    }
