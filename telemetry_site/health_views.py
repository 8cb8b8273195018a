"""Health endpoints, without authentication: they show no names and no secrets.

Anonymous callers of the detailed health get the status of each component and the rates that the requirements name.
Reasons and internal figures, which tell how busy a site is and where it is weak, are for callers that may read.
"""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.db import DatabaseError
from rest_framework import serializers
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from ingest.authentication import cached_caller, read_credential
from metrics.storage.disk_space import is_disk_full
from metrics.storage.errors import StorageUnavailable
from rest.caller import caller_of
from rest.errors import TelemetryError
from rest.openapi import Tag, operation
from rest.responses import ResponseSerializer
from telemetry_site import health_checks
from telemetry_site.health_checks import DEGRADED, HEALTHY, UNHEALTHY, can_store, database_answers, redis_answers


class HealthEndpoint(APIView):
    """Base class: no authentication and no permission is needed."""

    authentication_classes: Sequence[type[BaseAuthentication]] = ()
    permission_classes = ()


class OptionalAuthentication(BaseAuthentication):
    """Authentication by key, token or session; callers without a valid one are anonymous, since health is for all.

    Keys and tokens that were valid lately are known while the database does not answer.
    """

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        credential = read_credential(request.headers.get("X-Api-Key"), request.headers.get("Authorization"))
        if credential is not None:
            is_cached, known = cached_caller(credential)
            if is_cached:
                return None if known is None else (known, None)
        try:
            for authentication in APIView.authentication_classes:
                found = authentication().authenticate(request)
                if found is not None:
                    return found
        except (APIException, TelemetryError, StorageUnavailable, DatabaseError):
            pass
        return None


def _service_status(status: str) -> dict[str, Any]:
    return {
        "status": status,
        "service": "telemetry_service",
        "port": settings.PORT,
        "version": settings.VERSION,
    }


class HealthAnswer(ResponseSerializer):
    status = serializers.ChoiceField([HEALTHY, UNHEALTHY])
    service = serializers.CharField()
    port = serializers.IntegerField()
    version = serializers.CharField()


class HealthView(HealthEndpoint):
    @operation(
        "get_health",
        "Get the health of the service",
        tag=Tag.STATISTICS,
        description="200 if the database answers and has disk space, else 503 with the same body.",
        response=HealthAnswer,
        also={503: HealthAnswer},
        response_example={"status": "healthy", "service": "telemetry_service", "port": 8218, "version": "1.0.0"},
        public=True,
    )
    def get(self, request: Request) -> Response:
        is_healthy = can_store()
        return Response(_service_status(HEALTHY if is_healthy else UNHEALTHY), 200 if is_healthy else 503)


PUBLIC_FIGURES = ("points_per_second", "avg_latency_ms", "error_rate")


class ComponentAnswer(ResponseSerializer):
    status = serializers.ChoiceField([HEALTHY, DEGRADED, UNHEALTHY])
    detail = serializers.CharField(required=False, help_text="Reason for the status; not for anonymous callers.")


class ComponentsAnswer(ResponseSerializer):
    data_ingestion = ComponentAnswer()
    time_series_db = ComponentAnswer()
    alert_engine = ComponentAnswer()
    real_time_stream = ComponentAnswer()
    event_bus = ComponentAnswer(
        required=False, help_text="Only with a target, or if a transaction holds the outbox of events back."
    )
    collectors = ComponentAnswer(required=False, help_text="Only with an enabled collector.")


class BusTargetAnswer(ResponseSerializer):
    name = serializers.CharField()
    events_waiting = serializers.IntegerField(help_text="Events that the target has not received, at most 20,000.")
    oldest_event_seconds = serializers.FloatField(help_text="Age of the oldest of them.")
    delivered = serializers.IntegerField(help_text="Events delivered since the installation.")
    failing_since = serializers.DateTimeField(allow_null=True)
    last_error = serializers.CharField(help_text="Also after it was overcome.")
    sync_interval = serializers.CharField(
        allow_null=True, help_text="Of a NATS server: `always`, an interval, or `unknown`; null for other targets."
    )
    reported_seconds_ago = serializers.FloatField(
        allow_null=True, help_text="Seconds since the relay last reported; null if none has run."
    )


class BusAnswer(ResponseSerializer):
    targets = BusTargetAnswer(many=True)
    outbox_held_back_seconds = serializers.FloatField(
        help_text="Age of a transaction that keeps committed events from being sent; 0 if there is none."
    )
    outbox_held_back_by = serializers.CharField(allow_null=True)
    parked_messages = serializers.IntegerField(help_text="At most 10,000.")


class CollectorsAnswer(ResponseSerializer):
    enabled = serializers.IntegerField(help_text="Enabled collectors.")
    failing = serializers.IntegerField(help_text="Enabled collectors whose last collection failed.")
    overdue = serializers.IntegerField(help_text="Enabled collectors that have been due for a minute or longer.")


class PerformanceAnswer(ResponseSerializer):
    database_round_trip_ms = serializers.FloatField(allow_null=True)
    commits = serializers.IntegerField(allow_null=True, help_text="Commits since the installation.")
    commits_to_merge = serializers.IntegerField(allow_null=True)
    points_to_merge = serializers.IntegerField(allow_null=True)
    oldest_commit_seconds = serializers.FloatField(allow_null=True, help_text="Age of the oldest unmerged commit.")
    damaged_blocks = serializers.IntegerField(
        allow_null=True, help_text="Blocks with a wrong checksum, whose points are left out until they are restored."
    )
    worker_heard_seconds_ago = serializers.FloatField(
        allow_null=True, help_text="Seconds since the last heartbeat of a worker; null if there was none."
    )
    points_per_second = serializers.FloatField(
        allow_null=True, help_text="Points stored per second in the last five minutes."
    )
    avg_latency_ms = serializers.FloatField(allow_null=True)
    p95_latency_ms = serializers.FloatField(allow_null=True)
    error_rate = serializers.FloatField(allow_null=True)
    points_waiting_here = serializers.IntegerField(help_text="Points in the write queue of this process.")
    sockets_here = serializers.IntegerField(help_text="Open WebSockets of this process.")
    commits_decoded_here = serializers.IntegerField(
        help_text="Commits that this process has decoded for live streams. Each commit is decoded once for all streams."
    )
    redis = serializers.ChoiceField(["up", "down"])
    bus = BusAnswer(allow_null=True, help_text="Event bus.")
    collectors = CollectorsAnswer(allow_null=True, help_text="Collectors that the site runs.")

    def get_fields(self) -> dict[str, serializers.Field]:
        """Mark the figures that anonymous callers do not get as optional."""
        fields = super().get_fields()
        for name, field in fields.items():
            field.required = name in PUBLIC_FIGURES
        return fields


class DetailedHealthAnswer(HealthAnswer):
    status = serializers.ChoiceField([HEALTHY, DEGRADED, UNHEALTHY])
    components = ComponentsAnswer()
    performance = PerformanceAnswer(help_text="Values that need the database are null if it does not answer.")


_HEALTHY_COMPONENT = {"status": HEALTHY, "detail": "points are stored without delay"}
_EXAMPLE = {
    "status": HEALTHY,
    "service": "telemetry_service",
    "port": 8218,
    "version": "1.0.0",
    "components": dict.fromkeys(
        ("data_ingestion", "time_series_db", "alert_engine", "real_time_stream"), _HEALTHY_COMPONENT
    ),
    "performance": {
        "database_round_trip_ms": 0.3,
        "commits": 70412,
        "commits_to_merge": 12,
        "points_to_merge": 24000,
        "oldest_commit_seconds": 9.2,
        "damaged_blocks": 0,
        "worker_heard_seconds_ago": 4.1,
        "points_per_second": 2000.0,
        "avg_latency_ms": 3.4,
        "p95_latency_ms": 8.1,
        "error_rate": 0.0,
        "points_waiting_here": 0,
        "sockets_here": 3,
        "commits_decoded_here": 1200,
        "redis": "up",
        "bus": {
            "targets": [
                {
                    "name": "nats",
                    "events_waiting": 0,
                    "oldest_event_seconds": 0.0,
                    "delivered": 1042,
                    "failing_since": None,
                    "last_error": "",
                    "sync_interval": "always",
                    "reported_seconds_ago": 1.2,
                }
            ],
            "outbox_held_back_seconds": 0.0,
            "outbox_held_back_by": None,
            "parked_messages": 0,
        },
        "collectors": {"enabled": 12, "failing": 1, "overdue": 0},
    },
}


class DetailedHealthView(HealthEndpoint):
    authentication_classes = (OptionalAuthentication,)

    @operation(
        "get_detailed_health",
        "Get the health of each component",
        tag=Tag.STATISTICS,
        description="200 if the service is healthy or degraded; 503 with the same body if points cannot be stored"
        " or read. Anonymous callers get the status of each component without its reason, and of the figures"
        f" {', '.join(PUBLIC_FIGURES)}.",
        response=DetailedHealthAnswer,
        also={503: DetailedHealthAnswer},
        response_example=_EXAMPLE,
        public=True,
    )
    def get(self, request: Request) -> Response:
        health, performance = health_checks.run_checks()
        status = health_checks.overall(health)
        components: dict[str, Any] = {name: component._asdict() for name, component in health.items()}
        if not _may_read(request):
            components = {name: {"status": component.status} for name, component in health.items()}
            performance = {name: performance[name] for name in PUBLIC_FIGURES}
        body = _service_status(status) | {"components": components, "performance": performance}
        return Response(body, 503 if status == UNHEALTHY else 200)


def _may_read(request: Request) -> bool:
    return request.user.is_authenticated and caller_of(request.user).may_read(None)


class AliveAnswer(ResponseSerializer):
    status = serializers.ChoiceField(["alive"])


class LiveView(HealthEndpoint):
    @operation(
        "get_liveness",
        "Check that the process is alive",
        tag=Tag.STATISTICS,
        description="Checks nothing else; restart a process that does not answer.",
        response=AliveAnswer,
        response_example={"status": "alive"},
        public=True,
    )
    def get(self, request: Request) -> Response:
        return Response({"status": "alive"})


class ReadyAnswer(ResponseSerializer):
    database = serializers.ChoiceField(["up", "down"])
    disk = serializers.ChoiceField(["free", "full"], help_text="Disk of the database.")
    redis = serializers.ChoiceField(["up", "down"])


class ReadyView(HealthEndpoint):
    @operation(
        "get_readiness",
        "Check that the database and Redis answer",
        tag=Tag.STATISTICS,
        description="503 if the database does not answer or its disk is full. Points are stored without Redis.",
        response=ReadyAnswer,
        also={503: ReadyAnswer},
        response_example={"database": "up", "disk": "free", "redis": "up"},
        public=True,
    )
    def get(self, request: Request) -> Response:
        database, is_full, cache = database_answers(), is_disk_full(), redis_answers()
        body = {
            "database": "up" if database else "down",
            "disk": "full" if is_full else "free",
            "redis": "up" if cache else "down",
        }
        return Response(body, 503 if is_full or not database else 200)
