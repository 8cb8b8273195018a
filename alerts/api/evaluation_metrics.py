"""Metrics of the evaluator, as the alerting document defines them."""

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from alerts.models import Alert, Delivery, DeliveryStatus, EvaluatorReport
from alerts.patterns import refresh
from metrics.alert_summary import registered_summary
from rest.caller import Caller
from rest.openapi import Tag, operation
from rest.permissions import caller
from rest.responses import ResponseSerializer

STATUSES = {"healthy": "healthy", "degraded": "warning", "unhealthy": "critical"}

METRICS_EXAMPLE = {
    "events_processed": 1_234_567,
    "events_per_second": 20_000.0,
    "active_alerts": 2,
    "system_status": "healthy",
    "system_detail": "12 alert rules are evaluated",
    "processing_latency_ms": 84.0,
    "queue_depth": 0,
    "deliveries_waiting": 0,
    "pattern_rate": 1,
    "rules": 12,
    "suspended_rules": 0,
    "watched_series": 340,
}


@extend_schema_serializer(component_name="AlertingFigures")
class EvaluationMetricsSerializer(ResponseSerializer):
    events_processed = serializers.IntegerField(help_text="Points evaluated since the evaluator started.")
    events_per_second = serializers.FloatField(help_text="Average of the last two seconds.")
    active_alerts = serializers.IntegerField(help_text="Open alerts of devices the caller sees.")
    system_status = serializers.ChoiceField(["healthy", "warning", "critical"])
    system_detail = serializers.CharField(help_text="Reason of the status.")
    processing_latency_ms = serializers.FloatField(
        allow_null=True,
        help_text="Maximum time from the commit of points to the end of their evaluation, over the last two seconds.",
    )
    queue_depth = serializers.IntegerField(help_text="Commits waiting for evaluation.")
    deliveries_waiting = serializers.IntegerField(help_text="Deliveries in the retry queue.")
    pattern_rate = serializers.IntegerField(help_text="Patterns detected for the first time in the last 24 hours.")
    rules = serializers.IntegerField(help_text="Evaluated rules.")
    suspended_rules = serializers.IntegerField(help_text="Rules suspended by an error.")
    watched_series = serializers.IntegerField(
        help_text="Pairs of rule and series with points since the evaluator started."
    )


class EvaluationMetricsView(APIView):
    @operation(
        "get_alerting_metrics",
        "Get metrics of the evaluator",
        tag=Tag.ALERTS,
        description="Returns throughput, latency, queues and open alerts of the evaluator.",
        response=EvaluationMetricsSerializer,
        response_example=METRICS_EXAMPLE,
    )
    def get(self, request: Request) -> Response:
        return Response(evaluation_metrics(caller(request)))


def evaluation_metrics(reader: Caller) -> dict[str, Any]:
    """Return the metrics of the evaluator; alerts are those of the devices that a caller sees."""
    report = EvaluatorReport.objects.filter(pk=1).first()
    figures = report.figures if report is not None else {}
    status, detail = registered_summary().health()
    waiting = Delivery.objects.filter(status__in=[DeliveryStatus.WAITING, DeliveryStatus.SENDING])
    return {
        "events_processed": figures.get("events", 0),
        "events_per_second": figures.get("points_per_second", 0.0),
        "active_alerts": Alert.objects.visible_to(reader).open().without_shadows().count(),
        "system_status": STATUSES[status],
        "system_detail": detail,
        "processing_latency_ms": figures.get("latency_ms"),
        "queue_depth": figures.get("seq_behind", 0),
        "deliveries_waiting": waiting.count(),
        "pattern_rate": refresh.count_new_patterns(timezone.now()),
        "rules": figures.get("rules", 0),
        "suspended_rules": figures.get("suspended", 0),
        "watched_series": figures.get("watched_series", 0),
    }
