"""How the site and its devices are, in numbers: all that a caller may see, or a view for everybody without names."""

import time
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models import Count, Sum
from django.utils import timezone
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from dashboard.device_overview import Seen
from dashboard.device_state import LATE, NEVER, OK, SILENT, count_states
from dashboard.views.overview import ROWS, situation
from ingest.models import Rejected
from metrics.models import Device, Head, MetricDefinition, Series
from metrics.query.last_seen import cached_last_seen
from metrics.statistics import request_history
from metrics.storage.connection import read_connection
from metrics.storage.write.writer import MAX_QUEUED_POINTS, running_writer
from rest.caller import Caller
from rest.openapi import Answer, Tag, operation
from rest.permissions import caller

BEGAN = time.monotonic()
PUBLIC_FOR = 5  # seconds that everybody's view may be kept by whoever passes it on
WORDS = {OK: "reporting", LATE: "late", SILENT: "silent", NEVER: "never_heard"}


class DeviceStates(Answer):
    total = serializers.IntegerField()
    reporting = serializers.IntegerField()
    late = serializers.IntegerField(help_text="Later than three of their expected intervals.")
    silent = serializers.IntegerField(help_text="Later than ten of them, or than 5 minutes where nobody said.")
    never_heard = serializers.IntegerField()


class PublicStatus(Answer):
    status = serializers.ChoiceField(["healthy", "warning", "critical"])
    timestamp = serializers.DateTimeField()
    devices = DeviceStates()
    points_per_second = serializers.FloatField(help_text="Of the last five minutes.")
    uptime_seconds = serializers.IntegerField(help_text="Of the process that answers.")


class RejectedCounts(Answer):
    rows = serializers.IntegerField()
    points = serializers.IntegerField()


class Status(PublicStatus):
    service = serializers.CharField()
    version = serializers.CharField()
    metrics_defined = serializers.IntegerField()
    series = serializers.IntegerField(help_text="Of the devices that the caller sees.")
    commits = serializers.IntegerField(help_text="Since the installation began.")
    buffer_utilization = serializers.FloatField(help_text="Of the writer's queue in the process that answers: 0 to 1.")
    rejected = RejectedCounts(help_text="What the rejected inbox holds of these devices.")


class DashboardValue(Answer):
    metric_name = serializers.CharField()
    value = serializers.JSONField()
    unit = serializers.CharField()
    timestamp = serializers.DateTimeField()


class DashboardDevice(Answer):
    device_id = serializers.CharField()
    name = serializers.CharField()
    status = serializers.ChoiceField(list(WORDS.values()))
    last_seen = serializers.DateTimeField(allow_null=True)
    values = DashboardValue(many=True, help_text="The most telling of its newest values.")


class Dashboard(PublicStatus):
    summary = serializers.CharField()
    recent = DashboardDevice(many=True, help_text=f"The worst first, {ROWS} at most.")


def states(seen: Caller, now: datetime) -> dict[str, int]:
    found = count_states(cached_last_seen().visible_to(seen), now)
    return {"total": sum(found.values())} | {word: found[state] for state, word in WORDS.items()}


def figures(seen: Caller) -> dict[str, Any]:
    """What every view tells; of people, of their devices alone."""
    now = timezone.now()
    devices = states(seen, now)
    status = "critical" if devices["silent"] else "warning" if devices["late"] else "healthy"
    return {
        "status": status,
        "timestamp": now,
        "devices": devices,
        "points_per_second": round(points_per_second(), 3),
        "uptime_seconds": int(time.monotonic() - BEGAN),
    }


def points_per_second() -> float:
    """Of the whole site, in the last five minutes."""
    with read_connection() as connection:
        return request_history.read_recent(connection).points_per_second


_EXAMPLE = {
    "status": "warning",
    "timestamp": "2025-12-18T10:00:00Z",
    "devices": {"total": 120, "reporting": 117, "late": 3, "silent": 0, "never_heard": 0},
    "points_per_second": 240.5,
    "uptime_seconds": 86400,
}


class PublicView(APIView):
    """For everybody: counts, no names and no ids. TELEMETRY_PUBLIC_STATUS=off takes it away."""

    authentication_classes = ()
    permission_classes = ()

    @operation(
        "get_public_status",
        "How the site is, for everybody",
        tag=Tag.STATISTICS,
        description="Aggregates alone, without names or ids. 404 where the installation keeps it to itself.",
        answer=PublicStatus,
        errors=(404, 503),
        answered=_EXAMPLE,
        public=True,
    )
    def get(self, request: Request) -> Response:
        if not settings.PUBLIC_STATUS:
            raise NotFound("there is no public view of this site")
        return Response(everybody(), headers={"Cache-Control": f"public, max-age={PUBLIC_FOR}"})


class StatusView(APIView):
    @operation(
        "get_status",
        "How the site is, with all internal figures",
        tag=Tag.STATISTICS,
        description="Of people the devices of their groups are counted.",
        answer=Status,
        answered=_EXAMPLE
        | {
            "service": "telemetry_service",
            "version": "1.0.0",
            "metrics_defined": 40,
            "series": 1200,
            "commits": 81234,
            "buffer_utilization": 0.0,
            "rejected": {"rows": 2, "points": 17},
        },
    )
    def get(self, request: Request) -> Response:
        seen = caller(request)
        devices = Device.objects.visible_to(seen)
        series = Series.objects.all() if seen.groups is None else Series.objects.filter(device__in=devices.values("pk"))
        rejected = Rejected.objects.visible_to(seen).order_by().aggregate(rows=Count("pk"), points=Sum("count"))
        writer = running_writer()
        waiting = writer.queued_points if writer is not None else 0
        more = {
            "service": "telemetry_service",
            "version": settings.VERSION,
            "metrics_defined": MetricDefinition.objects.count(),
            "series": series.count(),
            "commits": Head.objects.aggregate(commits=Sum("seq"))["commits"] or 0,
            "buffer_utilization": waiting / MAX_QUEUED_POINTS,
            "rejected": {"rows": rejected["rows"], "points": rejected["points"] or 0},
        }
        return Response(figures(seen) | more)


class DashboardView(APIView):
    @operation(
        "get_dashboard",
        "What a dashboard shows first",
        tag=Tag.STATISTICS,
        description="The state of the devices, and the newest values of those that need a look.",
        answer=Dashboard,
        answered=_EXAMPLE
        | {
            "summary": "1 device reporting",
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
        seen = caller(request)
        shown = situation(seen)
        more = {"summary": shown.sentence, "recent": [_device(row) for row in shown.rows[:ROWS]]}
        return Response(figures(seen) | more)


def _device(row: Seen) -> dict[str, Any]:
    return {
        "device_id": row.device.device_id,
        "name": str(row.device),
        "status": WORDS[row.state],
        "last_seen": row.last_seen,
        "values": [
            {"metric_name": one.metric_name, "value": one.value, "unit": one.raw_unit, "timestamp": one.timestamp}
            for one in row.telling
        ],
    }


_public: tuple[float, dict[str, Any]] | None = None


def everybody() -> dict[str, Any]:
    """The figures of all devices, reckoned anew every few seconds however often anybody asks."""
    global _public
    if _public is None or time.monotonic() >= _public[0]:
        _public = (time.monotonic() + PUBLIC_FOR, figures(Caller.internal("public")))
    return _public[1]


def forget() -> None:
    """Start anew: between tests."""
    global _public
    _public = None
