"""Is it up, for balancers and people: no authentication, nothing that tells more than it must."""

import redis
from django.conf import settings
from django.http import HttpRequest, JsonResponse

from metrics.errors import StorageUnavailable
from metrics.storage.connection import reading

REDIS_PATIENCE = 1.0  # seconds


def health(request: HttpRequest) -> JsonResponse:
    """PRD E6-US3: 200 where the database answers, else 503."""
    well = _database_answers()
    body = {
        "status": "healthy" if well else "unhealthy",
        "service": "telemetry_service",
        "port": settings.PORT,
        "version": settings.VERSION,
    }
    return JsonResponse(body, status=200 if well else 503)


def livez(request: HttpRequest) -> JsonResponse:
    """The process answers; nothing else is asked."""
    return JsonResponse({"status": "alive"})


def readyz(request: HttpRequest) -> JsonResponse:
    """Whether the servers behind it answer. Measurements are taken without Redis: its absence alone is no 503."""
    database, cache = _database_answers(), _redis_answers()
    body = {"database": "up" if database else "down", "redis": "up" if cache else "down"}
    return JsonResponse(body, status=200 if database else 503)


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
