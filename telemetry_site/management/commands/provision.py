"""`manage.py provision`: check the servers, migrate the database, create the first admin and the keys."""

from typing import Any

import psycopg
import redis
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand

from metrics.storage.connection import connect, shares_sessions
from metrics.storage.errors import ShardCountMismatch
from telemetry_site.env import InvalidSetting, without_password
from telemetry_site.provision import provision

REDIS_TIMEOUT = 5  # seconds
_LOCK_KEY = 0x70726F76  # advisory lock: one process provisions at a time


class Command(BaseCommand):
    help = "Migrate the database and create the first admin and the keys if they are missing. Safe to run again."
    requires_system_checks: list[str] = []  # `make check` runs them; skipped here for a faster start

    def handle(self, *args: Any, **options: Any) -> None:
        _check_database()
        _check_redis()
        with connect(statement_timeout="0") as connection:
            # Of several machines that start at once, the first migrates and provisions.
            connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK_KEY,))
            try:
                call_command("migrate", interactive=False, verbosity=0, skip_checks=True)
            except ShardCountMismatch as error:
                raise InvalidSetting("TELEMETRY_SHARDS", str(settings.SHARDS), str(error)) from None
            provision()


def _check_database() -> None:
    try:
        # Without the pool, which retries for seconds and hides the reason.
        sessions_are_shared = shares_sessions()
    except psycopg.OperationalError as error:
        raise _invalid_database_url(f"the database cannot be reached ({' '.join(str(error).split())})") from None
    if sessions_are_shared:
        raise _invalid_database_url(
            "the connection pooler shares sessions; pool_mode = session is required (PgBouncer), or a direct connection"
        )


def _invalid_database_url(problem: str) -> InvalidSetting:
    return InvalidSetting("DATABASE_URL", without_password(settings.DATABASE_URL), problem)


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
