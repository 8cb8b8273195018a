"""Status of the site and its devices, for a caller's devices or as public counts without names."""

import time
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.db.models import Count, Sum
from django.utils import timezone
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from alerts.api import examples as alert_examples
from alerts.api.alert_serializers import AlertSerializer, visible_alerts
from alerts.api.evaluation_metrics import METRICS_EXAMPLE, EvaluationMetricsSerializer, evaluation_metrics
from dashboard.api.agent_figures import MAX_AGENTS, AgentFigures, agent_figures
from dashboard.device_overview import DeviceRow
from dashboard.views.overview import MAX_ROWS, summarize_devices
from ingest.models import Rejected
from metrics.devices.device_state import STATE_NAMES, DeviceState, count_states, ranks_of
from metrics.models import Device, Head, MetricDefinition, Series
from metrics.query.last_seen import cached_last_seen
from metrics.statistics import request_history
from metrics.storage.connection import read_connection
from metrics.storage.write.group_commit import MAX_QUEUED_POINTS, running_writer
from rest.caller import Caller
from rest.openapi import Tag, operation
from rest.permissions import caller
from rest.responses import ResponseSerializer

STARTED_AT = time.monotonic()
PUBLIC_CACHE_SECONDS = 5
MAX_ALERTS = 10
BUFFER = "Fill level of the writer's queue in the process that responds, 0 to 1."


class DeviceStates(ResponseSerializer):
    total = serializers.IntegerField()
    reporting = serializers.IntegerField(help_text="Online devices.")
    late = serializers.IntegerField(help_text="No data for more than three expected intervals.")
    silent = serializers.IntegerField(
        help_text="Offline: no data for more than ten expected intervals, or 5 minutes for devices without one."
    )
    never_heard = serializers.IntegerField(help_text="Devices that never sent data.")


class PublicStatus(ResponseSerializer):
    status = serializers.ChoiceField(["healthy", "warning", "critical"])
    timestamp = serializers.DateTimeField()
    devices = DeviceStates()
    points_per_second = serializers.FloatField(help_text="Average of the last five minutes.")
    uptime_seconds = serializers.IntegerField(help_text="Of the process that responds.")


class RejectedCounts(ResponseSerializer):
    rows = serializers.IntegerField()
    points = serializers.IntegerField()


@extend_schema_serializer(component_name="Status")
class SiteStatus(PublicStatus):
    service = serializers.CharField()
    version = serializers.CharField()
    metrics_defined = serializers.IntegerField()
    series = serializers.IntegerField(help_text="Of the devices that the caller sees.")
    commits = serializers.IntegerField(help_text="Since the installation.")
    buffer_utilization = serializers.FloatField(help_text=BUFFER)
    rejected = RejectedCounts(help_text="Rejected points of these devices.")
    agents = AgentFigures(
        many=True,
        help_text=f"Agents that collectors of kind agent_health watch, at most {MAX_AGENTS}, with their IDs and costs.",
    )


class DashboardValue(ResponseSerializer):
    metric_name = serializers.CharField()
    value = serializers.JSONField()
    unit = serializers.CharField()
    timestamp = serializers.DateTimeField()


class DashboardDevice(ResponseSerializer):
    device_id = serializers.CharField()
    name = serializers.CharField()
    status = serializers.ChoiceField(list(STATE_NAMES.values()))
    last_seen = serializers.DateTimeField(allow_null=True)
    values = DashboardValue(many=True, help_text="The most important of its newest values.")


@extend_schema_serializer(component_name="Dashboard")
class Dashboard(PublicStatus, EvaluationMetricsSerializer):
    summary = serializers.CharField()
    buffer_utilization = serializers.FloatField(help_text=BUFFER)
    alerts = AlertSerializer(many=True, help_text=f"The newest open alerts, at most {MAX_ALERTS}.")
    recent = DashboardDevice(many=True, help_text=f"At most {MAX_ROWS}, the worst state first.")


def count_devices(reader: Caller) -> Mapping[DeviceState, int]:
    """Return the number of devices in each state, of those that a caller sees."""
    return count_states(ranks_of(cached_last_seen().visible_to(reader)))


def status_of(counts: Mapping[DeviceState, int]) -> dict[str, Any]:
    """Return the fields of the public status for devices in these states."""
    now = timezone.now()
    devices = {"total": sum(counts.values())} | {name: counts.get(state, 0) for state, name in STATE_NAMES.items()}
    status = "critical" if devices["silent"] else "warning" if devices["late"] else "healthy"
    return {
        "status": status,
        "timestamp": now,
        "devices": devices,
        "points_per_second": round(points_per_second(), 3),
        "uptime_seconds": int(time.monotonic() - STARTED_AT),
    }


def points_per_second() -> float:
    """Return the stored points per second of the whole site in the last five minutes."""
    with read_connection() as connection:
        return request_history.read_recent(connection).points_per_second


def buffer_utilization() -> float:
    """Return the fill level of the writer's queue in this process."""
    writer = running_writer()
    return 0.0 if writer is None else writer.queued_points / MAX_QUEUED_POINTS


_EXAMPLE = {
    "status": "warning",
    "timestamp": "2025-12-18T10:00:00Z",
    "devices": {"total": 120, "reporting": 117, "late": 3, "silent": 0, "never_heard": 0},
    "points_per_second": 240.5,
    "uptime_seconds": 86400,
}


class PublicView(APIView):
    """Public status: counts without names or IDs. TELEMETRY_PUBLIC_STATUS=off disables it."""

    authentication_classes = ()
    permission_classes = ()

    @operation(
        "get_public_status",
        "Public status of the site",
        tag=Tag.STATISTICS,
        description="Counts without names or IDs. 404 where TELEMETRY_PUBLIC_STATUS is off.",
        response=PublicStatus,
        errors=(404, 503),
        response_example=_EXAMPLE,
        public=True,
    )
    def get(self, request: Request) -> Response:
        if not settings.PUBLIC_STATUS:
            raise NotFound("this site has no public status")
        return Response(public_status(), headers={"Cache-Control": f"public, max-age={PUBLIC_CACHE_SECONDS}"})


class StatusView(APIView):
    @operation(
        "get_status",
        "Status of the site with internal figures",
        tag=Tag.STATISTICS,
        description="Counts the devices that the caller sees.",
        response=SiteStatus,
        response_example=_EXAMPLE
        | {
            "service": "telemetry_service",
            "version": "1.0.0",
            "metrics_defined": 40,
            "series": 1200,
            "commits": 81234,
            "buffer_utilization": 0.0,
            "rejected": {"rows": 2, "points": 17},
            "agents": [
                {
                    "device_id": "scout",
                    "collector_id": "col_0123456789abcdef",
                    "healthy": True,
                    "last_contact": "2025-12-18T09:59:58Z",
                    "values": {"version": "1.4.2", "cognitive_state": "WORK", "cost_cents_24h": 41.5},
                }
            ],
        },
    )
    def get(self, request: Request) -> Response:
        reader = caller(request)
        devices = Device.objects.visible_to(reader)
        series = Series.objects.all() if reader.sees_all else Series.objects.filter(device__in=devices.values("pk"))
        rejected = Rejected.objects.visible_to(reader).order_by().aggregate(rows=Count("pk"), points=Sum("count"))
        more = {
            "service": "telemetry_service",
            "version": settings.VERSION,
            "metrics_defined": MetricDefinition.objects.count(),
            "series": series.count(),
            "commits": Head.objects.aggregate(commits=Sum("seq"))["commits"] or 0,
            "buffer_utilization": buffer_utilization(),
            "rejected": {"rows": rejected["rows"], "points": rejected["points"] or 0},
            "agents": agent_figures(reader),
        }
        return Response(status_of(count_devices(reader)) | more)


class DashboardView(APIView):
    @operation(
        "get_dashboard",
        "Summary for a dashboard",
        tag=Tag.STATISTICS,
        description="The states of the devices, the newest values of the devices in the worst state, the metrics of the"
        " evaluator and the newest open alerts.",
        response=Dashboard,
        response_example=_EXAMPLE
        | {
            "summary": "1 device online",
            "buffer_utilization": 0.0,
            "alerts": [alert_examples.ALERT],
            **METRICS_EXAMPLE,
            "recent": [
                {
                    "device_id": "sensor_001",
                    "name": "sensor_001",
                    "status": "reporting",
                    "last_seen": "2025-12-18T09:59:58Z",
                    "values": [
                        {
                            "metric_name": "temperature",
                            "value": 75.0,
                            "unit": "°C",
                            "timestamp": "2025-12-18T09:59:58Z",
                        }
                    ],
                }
            ],
        },
    )
    def get(self, request: Request) -> Response:
        reader = caller(request)
        summary = summarize_devices(reader)
        alerts = visible_alerts(reader).open().without_shadows()[:MAX_ALERTS]
        more = {
            "summary": summary.sentence,
            "recent": [_device(row) for row in summary.rows[:MAX_ROWS]],
            "buffer_utilization": buffer_utilization(),
            "alerts": AlertSerializer(alerts, many=True).data,
        }
        return Response(status_of(summary.counts) | evaluation_metrics(reader) | more)


def _device(row: DeviceRow) -> dict[str, Any]:
    return {
        "device_id": row.device.device_id,
        "name": str(row.device),
        "status": STATE_NAMES[row.state],
        "last_seen": row.last_seen,
        "values": [
            {
                "metric_name": point.metric_name,
                "value": point.value,
                "unit": point.unit or "",
                "timestamp": point.timestamp,
            }
            for point in row.key_values
        ],
    }


_public: tuple[float, dict[str, Any]] | None = None


def public_status() -> dict[str, Any]:
    """Return the status of all devices, computed at most once in PUBLIC_CACHE_SECONDS."""
    global _public
    if _public is None or time.monotonic() >= _public[0]:
        _public = (time.monotonic() + PUBLIC_CACHE_SECONDS, status_of(count_devices(Caller.internal("public"))))
    return _public[1]


def clear_cache() -> None:
    """Forget the cached public status."""
    global _public
    _public = None
