"""Is it up, for balancers and people: no authentication, nothing that tells more than it must."""

from typing import Any

from django.conf import settings
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from rest.openapi import Answer, Tag, operation
from telemetry_site import components
from telemetry_site.components import DEGRADED, HEALTHY, UNHEALTHY, database_answers, redis_answers


class _Probe(APIView):
    """Asked by balancers many times a minute, by anybody."""

    authentication_classes = ()
    permission_classes = ()


def _about(status: str) -> dict[str, Any]:
    return {
        "status": status,
        "service": "telemetry_service",
        "port": settings.PORT,
        "version": settings.VERSION,
    }


class HealthAnswer(Answer):
    status = serializers.ChoiceField([HEALTHY, UNHEALTHY])
    service = serializers.CharField()
    port = serializers.IntegerField()
    version = serializers.CharField()


class HealthView(_Probe):
    @operation(
        "get_health",
        "Whether the service is healthy",
        tag=Tag.STATISTICS,
        description="200 where the database answers, else 503 with the same body.",
        answer=HealthAnswer,
        also={503: HealthAnswer},
        answered={"status": "healthy", "service": "telemetry_service", "port": 8218, "version": "1.0.0"},
        public=True,
    )
    def get(self, request: Request) -> Response:
        """PRD E6-US3."""
        well = database_answers()
        return Response(_about(HEALTHY if well else UNHEALTHY), 200 if well else 503)


class ComponentAnswer(Answer):
    status = serializers.ChoiceField([HEALTHY, DEGRADED, UNHEALTHY])
    detail = serializers.CharField(help_text="Why.")


class ComponentsAnswer(Answer):
    data_ingestion = ComponentAnswer()
    time_series_db = ComponentAnswer()
    alert_engine = ComponentAnswer()
    real_time_stream = ComponentAnswer()


class PerformanceAnswer(Answer):
    database_round_trip_ms = serializers.FloatField(allow_null=True)
    commits = serializers.IntegerField(allow_null=True, help_text="Since the installation began.")
    commits_to_merge = serializers.IntegerField(allow_null=True)
    points_to_merge = serializers.IntegerField(allow_null=True)
    oldest_commit_seconds = serializers.FloatField(allow_null=True, help_text="That the oldest of these has waited.")
    worker_heard_seconds_ago = serializers.FloatField(allow_null=True, help_text="Null: never.")
    points_per_second = serializers.FloatField(allow_null=True, help_text="Of the last five minutes, as all below.")
    avg_latency_ms = serializers.FloatField(allow_null=True)
    p95_latency_ms = serializers.FloatField(allow_null=True)
    error_rate = serializers.FloatField(allow_null=True)
    points_waiting_here = serializers.IntegerField(help_text="Points that this process is about to store.")
    sockets_here = serializers.IntegerField(help_text="WebSockets that are open in this process.")
    redis = serializers.ChoiceField(["up", "down"])


class DetailedHealthAnswer(HealthAnswer):
    status = serializers.ChoiceField([HEALTHY, DEGRADED, UNHEALTHY])
    components = ComponentsAnswer()
    performance = PerformanceAnswer(help_text="Null is what cannot be told without the database.")


_WELL = {"status": HEALTHY, "detail": "points are stored as they come"}
_DETAILED = {
    "status": HEALTHY,
    "service": "telemetry_service",
    "port": 8218,
    "version": "1.0.0",
    "components": dict.fromkeys(("data_ingestion", "time_series_db", "alert_engine", "real_time_stream"), _WELL),
    "performance": {
        "database_round_trip_ms": 0.3,
        "commits": 70412,
        "commits_to_merge": 12,
        "points_to_merge": 24000,
        "oldest_commit_seconds": 9.2,
        "worker_heard_seconds_ago": 4.1,
        "points_per_second": 2000.0,
        "avg_latency_ms": 3.4,
        "p95_latency_ms": 8.1,
        "error_rate": 0.0,
        "points_waiting_here": 0,
        "sockets_here": 3,
        "redis": "up",
    },
}


class DetailedHealthView(_Probe):
    @operation(
        "get_detailed_health",
        "How the parts of the service are",
        tag=Tag.STATISTICS,
        description="503 with the same body where measurements can neither come in nor be read; degraded is what goes"
        " on with less.",
        answer=DetailedHealthAnswer,
        also={503: DetailedHealthAnswer},
        answered=_DETAILED,
        public=True,
    )
    def get(self, request: Request) -> Response:
        """PRD E6-US4."""
        found, figures = components.ask()
        status = components.overall(found)
        told = {name: one._asdict() for name, one in found.items()}
        body = _about(status) | {"components": told, "performance": figures}
        return Response(body, 503 if status == UNHEALTHY else 200)


class AliveAnswer(Answer):
    status = serializers.ChoiceField(["alive"])


class LiveView(_Probe):
    @operation(
        "get_liveness",
        "Whether the process answers",
        tag=Tag.STATISTICS,
        description="Nothing else is asked: a process that does not answer this has to be started anew.",
        answer=AliveAnswer,
        answered={"status": "alive"},
        public=True,
    )
    def get(self, request: Request) -> Response:
        return Response({"status": "alive"})


class ReadyAnswer(Answer):
    database = serializers.ChoiceField(["up", "down"])
    redis = serializers.ChoiceField(["up", "down"])


class ReadyView(_Probe):
    @operation(
        "get_readiness",
        "Whether the servers behind it answer",
        tag=Tag.STATISTICS,
        description="Measurements are taken without Redis: only without the database the answer is 503.",
        answer=ReadyAnswer,
        also={503: ReadyAnswer},
        answered={"database": "up", "redis": "up"},
        public=True,
    )
    def get(self, request: Request) -> Response:
        database, cache = database_answers(), redis_answers()
        body = {"database": "up" if database else "down", "redis": "up" if cache else "down"}
        return Response(body, 200 if database else 503)
