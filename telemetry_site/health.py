"""Is it up, for balancers and people: no authentication, nothing that tells more than it must."""

import redis
from django.conf import settings
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from metrics.api.schema import Answer, Tag, operation
from metrics.errors import StorageUnavailable
from metrics.storage.connection import reading

REDIS_PATIENCE = 1.0  # seconds


class _Probe(APIView):
    """Asked by balancers many times a minute, by anybody."""

    authentication_classes = ()
    permission_classes = ()


class HealthAnswer(Answer):
    status = serializers.ChoiceField(["healthy", "unhealthy"])
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
        well = _database_answers()
        body = {
            "status": "healthy" if well else "unhealthy",
            "service": "telemetry_service",
            "port": settings.PORT,
            "version": settings.VERSION,
        }
        return Response(body, 200 if well else 503)


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
        database, cache = _database_answers(), _redis_answers()
        body = {"database": "up" if database else "down", "redis": "up" if cache else "down"}
        return Response(body, 200 if database else 503)


def _database_answers() -> bool:
    try:
        with reading() as connection:
            connection.execute("SELECT 1")
    except StorageUnavailable:
        return False
    return True


def _redis_answers() -> bool:
    try:
        client = redis.Redis.from_url(
            settings.REDIS_URL, socket_timeout=REDIS_PATIENCE, socket_connect_timeout=REDIS_PATIENCE
        )
        with client:
            return bool(client.ping())
    except redis.RedisError:
        return False
