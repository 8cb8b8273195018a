"""`manage.py provision`: check the servers, migrate the database, create the first admin and the keys."""

from typing import Any

import psycopg
import redis
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand

from metrics.storage.connection import connect
from metrics.storage.errors import ShardCountMismatch
from telemetry_site.env import InvalidSetting, without_password
from telemetry_site.provision import provision

REDIS_TIMEOUT = 5  # seconds


class Command(BaseCommand):
    help = "Migrate the database and create the first admin and the keys if they are missing. Safe to run again."
    requires_system_checks: list[str] = []  # `make check` runs them; skipped here for a faster start

    def handle(self, *args: Any, **options: Any) -> None:
        _check_database()
        _check_redis()
        try:
            call_command("migrate", interactive=False, verbosity=0, skip_checks=True)
        except ShardCountMismatch as error:
            raise InvalidSetting("TELEMETRY_SHARDS", str(settings.SHARDS), str(error)) from None
        provision()


def _check_database() -> None:
    try:
        connect().close()  # without the pool, which retries for seconds and hides the reason
    except psycopg.OperationalError as error:
        reason = " ".join(str(error).split())
        raise InvalidSetting(
            "DATABASE_URL", without_password(settings.DATABASE_URL), f"the database cannot be reached ({reason})"
        ) from None


def _check_redis() -> None:
    try:
        with redis.Redis.from_url(
            settings.REDIS_URL, socket_connect_timeout=REDIS_TIMEOUT, socket_timeout=REDIS_TIMEOUT
        ) as client:
            client.ping()
    except redis.RedisError as error:
        raise InvalidSetting(
            "REDIS_URL", without_password(settings.REDIS_URL), f"Redis cannot be reached ({error})"
        ) from None
