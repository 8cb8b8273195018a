"""Rules over stored history, saved or not: what they would have done."""

from dataclasses import asdict
from datetime import UTC, timedelta
from typing import Any

from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from alerts.api import examples
from alerts.api.checking import Unprocessable, checked, found_by, refusing
from alerts.api.rule_shapes import RuleSerializer, whole
from alerts.api.rules import known_rules
from alerts.conditions.spec import read_spec
from alerts.history.backtest import MAX_FIRINGS, Backtest, Firing, backtest
from alerts.rules.lifecycle import document_of
from alerts.rules.scope import RuleScope
from metrics.api.answers import Answer
from metrics.models import NAME_LENGTH
from rest.configuration import Known
from rest.openapi import Tag, operation
from rest.permissions import caller

BEFORE = timedelta(days=7)
_EXAMPLE = {
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
    "incomplete": [],
}


class BacktestQuestion(Known):
    """A rule as it is, as it might be, or one that is not saved; and which stored history it is to be held against."""

    rule_id = serializers.CharField(max_length=NAME_LENGTH, required=False, help_text="This rule.")
    rule = serializers.DictField(
        required=False, help_text="The fields of a rule, as one is made; with `rule_id`, those that differ."
    )
    start_time = serializers.DateTimeField(
        default_timezone=UTC, required=False, help_text=f"As if made then; {BEFORE.days} days before the end."
    )
    end_time = serializers.DateTimeField(default_timezone=UTC, required=False, help_text="Until then; now.")

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        attributes = super().validate(attributes)
        if not {"rule_id", "rule"} & attributes.keys():
            raise serializers.ValidationError({"rule": "rule, rule_id or both are needed"})
        end = attributes.get("end_time", timezone.now())
        start = attributes.get("start_time", end - BEFORE)
        if not start < end:
            raise serializers.ValidationError({"start_time": "must be before end_time"})
        return attributes | {"start_time": start, "end_time": end}

    def document(self) -> dict[str, Any]:
        """Of the rule that is meant. Raises NotFound, Unprocessable."""
        rule_id, fields = (self.validated_data.get(name) for name in ("rule_id", "rule"))
        saved = None if rule_id is None else document_of(found_by(known_rules(), rule_id=rule_id))
        if fields is None:
            return saved or {}
        given = RuleSerializer(data=fields, partial=saved is not None)
        if not given.is_valid():
            raise Unprocessable({"rule": given.errors})
        return whole(given.validated_data) if saved is None else saved | given.validated_data


class BacktestSubject(Answer):
    device_id = serializers.CharField()
    metric_name = serializers.CharField()
    points = serializers.IntegerField()
    firings = serializers.IntegerField()
    is_open = serializers.BooleanField(help_text="The last one would be open still.")
    held_back = serializers.IntegerField(help_text="Further alerts that the cooldown would have kept back.")
    open_seconds = serializers.FloatField(help_text="For so long it would have been open, all in all.")
    notifications = serializers.IntegerField()


class BacktestFiring(Answer):
    device_id = serializers.CharField()
    metric_name = serializers.CharField()
    start_time = serializers.DateTimeField()
    end_time = serializers.DateTimeField(allow_null=True, help_text="Null: it would be open still.")
    value = serializers.FloatField(allow_null=True, help_text="What was judged when it was triggered.")
    peak = serializers.FloatField(allow_null=True, help_text="The worst until it ended.")


class BacktestChart(Answer):
    device_id = serializers.CharField()
    metric_name = serializers.CharField()
    times = serializers.ListField(child=serializers.FloatField(), help_text="Milliseconds since 1970.")
    values = serializers.ListField(child=serializers.FloatField())
    threshold = serializers.FloatField(allow_null=True)
    clear_threshold = serializers.FloatField(allow_null=True)


class BacktestAnswer(Answer):
    start_time = serializers.DateTimeField()
    end_time = serializers.DateTimeField()
    firings_count = serializers.IntegerField()
    notifications = serializers.IntegerField(help_text="How often each of its channels would have been told.")
    held_back = serializers.IntegerField(help_text="Further alerts that the cooldown would have kept back.")
    points = serializers.IntegerField(help_text="That were judged.")
    milliseconds = serializers.FloatField(help_text="It took so long.")
    subjects = BacktestSubject(many=True)
    firings = BacktestFiring(many=True, help_text=f"The latest {MAX_FIRINGS:,}, the latest first.")
    chart = BacktestChart(allow_null=True, help_text="What was judged of the one with the most firings, thinned.")
    incomplete = serializers.ListField(child=serializers.CharField(), help_text="What could not be judged.")


class BacktestView(APIView):
    @operation(
        "backtest_alert_rule",
        "What a rule would have done",
        tag=Tag.ALERTS,
        description="Stored history goes through the very evaluation that measurements go through as they come, of the"
        " devices that the caller sees.",
        request=BacktestQuestion,
        answer=BacktestAnswer,
        errors=(404, 422),
        asked={"rule": examples.RULE, "start_time": "2025-09-19T10:00:00Z", "end_time": "2025-12-18T10:00:00Z"},
        answered=_EXAMPLE,
    )
    def post(self, request: Request) -> Response:
        question = BacktestQuestion(data=request.data)
        given = checked(question)
        document = question.document()
        with refusing():
            spec = read_spec(document)
        scope = RuleScope(caller(request), document["device_ids"], document["device_groups"])
        return Response(_shape(backtest(spec, scope, given["start_time"], given["end_time"])))


def _shape(found: Backtest) -> dict[str, Any]:
    chart = found.chart
    return {
        "start_time": found.start,
        "end_time": found.end,
        "firings_count": found.count,
        "notifications": found.notifications,
        "held_back": found.held_back,
        "points": found.points,
        "milliseconds": found.milliseconds,
        "subjects": [asdict(one) | {"notifications": one.notifications} for one in found.subjects],
        "firings": [_firing(one) for one in found.firings],
        "chart": None if chart is None else asdict(chart) | {"times": [time / 1000 for time in chart.times]},
        "incomplete": found.missing,
    }


def _firing(firing: Firing) -> dict[str, Any]:
    fields = asdict(firing)
    return {"start_time": fields.pop("start"), "end_time": fields.pop("end")} | fields
