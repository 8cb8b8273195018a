"""Backtests: an alert rule, stored or not, evaluated on stored points."""

from dataclasses import asdict
from datetime import UTC, timedelta
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from alerts.api import examples
from alerts.api.alert_serializers import EvaluatedValueField
from alerts.api.rule_serializers import RuleSerializer, complete_document
from alerts.api.rules import rules
from alerts.conditions.spec import read_spec
from alerts.history.backtest import MAX_FIRINGS, Backtest, Firing, backtest
from alerts.rules.lifecycle import document_of
from alerts.rules.scope import RuleScope
from metrics.models import NAME_LENGTH
from rest.caller import Caller
from rest.errors import InvalidField
from rest.fields import StrictSerializer
from rest.openapi import Tag, operation
from rest.permissions import caller
from rest.resources import get_row, validate_body
from rest.responses import ResponseSerializer

DEFAULT_PERIOD = timedelta(days=7)
EXAMPLE_BACKTEST = {
    "start_time": "2025-09-19T10:00:00Z",
    "end_time": "2025-12-18T10:00:00Z",
    "firings_count": 1,
    "notifications": 2,
    "held_back": 0,
    "points": 777600,
    "milliseconds": 412.5,
    "subjects": [
        {
            "device_id": "device_001",
            "metric_name": "cpu_percent",
            "points": 777600,
            "firings": 1,
            "is_open": False,
            "held_back": 0,
            "open_seconds": 240.0,
            "notifications": 2,
        }
    ],
    "firings": [
        {
            "device_id": "device_001",
            "metric_name": "cpu_percent",
            "start_time": "2025-12-17T10:00:00Z",
            "end_time": "2025-12-17T10:04:00Z",
            "value": 97.5,
            "peak": 99.1,
        }
    ],
    "chart": None,
    "notifications_per_month": None,
    "incomplete": [],
}


@extend_schema_serializer(component_name="BacktestQuestion")
class BacktestRequestSerializer(StrictSerializer):
    """A stored rule, a stored rule with changed fields, or a new rule; and the period to evaluate."""

    rule_id = serializers.CharField(max_length=NAME_LENGTH, required=False, help_text="ID of a stored rule.")
    rule = serializers.DictField(required=False, help_text="Fields of a new rule; with `rule_id`, the changed fields.")
    start_time = serializers.DateTimeField(
        default_timezone=UTC,
        required=False,
        help_text=f"Start of the period; {DEFAULT_PERIOD.days} days before the end by default.",
    )
    end_time = serializers.DateTimeField(
        default_timezone=UTC, required=False, help_text="End of the period; now by default."
    )

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        attributes = super().validate(attributes)
        if not {"rule_id", "rule"} & attributes.keys():
            raise serializers.ValidationError({"rule": "rule, rule_id or both are required"})
        end = attributes.get("end_time", timezone.now())
        start = attributes.get("start_time", end - DEFAULT_PERIOD)
        if not start < end:
            raise InvalidField("start_time", "must be before end_time")
        return attributes | {"start_time": start, "end_time": end}

    def document(self, caller: Caller) -> dict[str, Any]:
        """Return the fields of the rule. Raises NotFound, ValidationError or InvalidFields."""
        rule_id, fields = (self.validated_data.get(name) for name in ("rule_id", "rule"))
        stored = None if rule_id is None else document_of(get_row(rules(caller), rule_id=rule_id))
        if fields is None:
            return stored or {}
        changes = validate_body(RuleSerializer(data=fields, partial=stored is not None), prefix="rule")
        return complete_document(changes) if stored is None else stored | changes


class BacktestSubjectSerializer(ResponseSerializer):
    device_id = serializers.CharField()
    metric_name = serializers.CharField()
    points = serializers.IntegerField()
    firings = serializers.IntegerField()
    is_open = serializers.BooleanField(help_text="Whether the last alert would still be open.")
    held_back = serializers.IntegerField(help_text="Alerts that the cooldown would have suppressed.")
    open_seconds = serializers.FloatField(help_text="Total seconds with an open alert.")
    notifications = serializers.IntegerField()


class BacktestFiringSerializer(ResponseSerializer):
    device_id = serializers.CharField()
    metric_name = serializers.CharField()
    start_time = serializers.DateTimeField()
    end_time = serializers.DateTimeField(allow_null=True, help_text="Null if the alert would still be open.")
    value = EvaluatedValueField(
        help_text="Value that would have opened the alert: a number, or the text or boolean as sent."
    )
    peak = serializers.FloatField(
        allow_null=True, help_text="Worst value while the alert was open; null for texts and booleans."
    )


class BacktestChartSerializer(ResponseSerializer):
    device_id = serializers.CharField()
    metric_name = serializers.CharField()
    times = serializers.ListField(child=serializers.FloatField(), help_text="Milliseconds since 1970.")
    values = serializers.ListField(child=serializers.FloatField())
    threshold = serializers.FloatField(allow_null=True)
    clear_threshold = serializers.FloatField(allow_null=True)


@extend_schema_serializer(component_name="NotificationsPerMonth")
class PerMonthSerializer(ResponseSerializer):
    calm = serializers.FloatField()
    normal = serializers.FloatField()
    keen = serializers.FloatField()


@extend_schema_serializer(component_name="BacktestAnswer")
class BacktestResultSerializer(ResponseSerializer):
    start_time = serializers.DateTimeField()
    end_time = serializers.DateTimeField()
    firings_count = serializers.IntegerField()
    notifications = serializers.IntegerField(help_text="Notifications that each of its channels would have received.")
    held_back = serializers.IntegerField(help_text="Alerts that the cooldown would have suppressed.")
    points = serializers.IntegerField(help_text="Number of evaluated points.")
    milliseconds = serializers.FloatField(help_text="Duration of the backtest.")
    subjects = BacktestSubjectSerializer(many=True)
    firings = BacktestFiringSerializer(
        many=True, help_text=f"Alerts that would have been opened; the latest {MAX_FIRINGS:,}, latest first."
    )
    chart = BacktestChartSerializer(
        allow_null=True, help_text="Evaluated values of the series with the most firings, downsampled."
    )
    notifications_per_month = PerMonthSerializer(
        allow_null=True,
        help_text="For anomaly rules: expected notifications per month at each sensitivity, of all series with a day of"
        " points. Null for other rules.",
    )
    incomplete = serializers.ListField(child=serializers.CharField(), help_text="Data that could not be read.")


class BacktestView(APIView):
    @operation(
        "backtest_alert_rule",
        "Backtest an alert rule",
        tag=Tag.ALERTS,
        description="Evaluates stored points of the devices the caller sees, with the same code as live points, and"
        " returns the alerts that the rule would have opened.",
        request=BacktestRequestSerializer,
        response=BacktestResultSerializer,
        errors=(404, 422),
        request_example={
            "rule": examples.RULE,
            "start_time": "2025-09-19T10:00:00Z",
            "end_time": "2025-12-18T10:00:00Z",
        },
        response_example=EXAMPLE_BACKTEST,
    )
    def post(self, request: Request) -> Response:
        serializer = BacktestRequestSerializer(data=request.data)
        period = validate_body(serializer)
        document = serializer.document(caller(request))
        scope = RuleScope(caller(request), document["device_ids"], document["device_groups"])
        result = backtest(read_spec(document), scope, period["start_time"], period["end_time"])
        return Response(_serialize(result))


def _serialize(result: Backtest) -> dict[str, Any]:
    chart = result.chart
    return {
        "start_time": result.start,
        "end_time": result.end,
        "firings_count": result.count,
        "notifications": result.notifications,
        "held_back": result.held_back,
        "points": result.points,
        "milliseconds": result.milliseconds,
        "subjects": [asdict(subject) | {"notifications": subject.notifications} for subject in result.subjects],
        "firings": [_serialize_firing(firing) for firing in result.firings],
        "chart": None if chart is None else asdict(chart) | {"times": [time / 1000 for time in chart.times]},
        "notifications_per_month": result.per_month,
        "incomplete": result.missing,
    }


def _serialize_firing(firing: Firing) -> dict[str, Any]:
    fields = asdict(firing)
    return {"start_time": fields.pop("start"), "end_time": fields.pop("end")} | fields
