"""What evaluation tells of itself: the metrics of the alerting document."""

from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from alerts.models import Alert, Delivery, DeliveryStatus, EvaluatorReport
from alerts.patterns import refresh
from metrics.alert_summary import registered_summary
from rest.openapi import Answer, Tag, operation
from rest.permissions import caller

STATUSES = {"healthy": "healthy", "degraded": "warning", "unhealthy": "critical"}


class AlertingFigures(Answer):
    events_processed = serializers.IntegerField(help_text="Points that were looked at since the evaluator began.")
    events_per_second = serializers.FloatField(help_text="Of the last two seconds.")
    active_alerts = serializers.IntegerField(help_text="Open ones, of what the caller sees.")
    system_status = serializers.ChoiceField(["healthy", "warning", "critical"])
    system_detail = serializers.CharField(help_text="Why.")
    processing_latency_ms = serializers.FloatField(
        allow_null=True,
        help_text="From the commit of points to what they changed, at the most, of the last two seconds.",
    )
    queue_depth = serializers.IntegerField(help_text="Commits that wait to be judged.")
    deliveries_waiting = serializers.IntegerField(help_text="Messages that are to be sent.")
    pattern_rate = serializers.IntegerField(help_text="Patterns that were found for the first time in the last day.")
    rules = serializers.IntegerField(help_text="That are evaluated.")
    suspended_rules = serializers.IntegerField(help_text="That are not, for an error.")
    watched_series = serializers.IntegerField(help_text="Series with points since the evaluator began, by rule.")


class AlertingFiguresView(APIView):
    @operation(
        "get_alerting_metrics",
        "How evaluation fares",
        tag=Tag.ALERTS,
        description="Events, alerts, latency and what waits.",
        answer=AlertingFigures,
        answered={
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
        },
    )
    def get(self, request: Request) -> Response:
        report = EvaluatorReport.objects.filter(pk=1).first()
        told = report.figures if report is not None else {}
        status, detail = registered_summary().health()
        waiting = Delivery.objects.filter(status__in=[DeliveryStatus.WAITING, DeliveryStatus.SENDING])
        return Response(
            {
                "events_processed": told.get("events", 0),
                "events_per_second": told.get("points_per_second", 0.0),
                "active_alerts": Alert.objects.visible_to(caller(request)).open().without_shadows().count(),
                "system_status": STATUSES[status],
                "system_detail": detail,
                "processing_latency_ms": told.get("latency_ms"),
                "queue_depth": told.get("seq_behind", 0),
                "deliveries_waiting": waiting.count(),
                "pattern_rate": refresh.count_new_patterns(timezone.now()),
                "rules": told.get("rules", 0),
                "suspended_rules": told.get("suspended", 0),
                "watched_series": told.get("watched_series", 0),
            }
        )
