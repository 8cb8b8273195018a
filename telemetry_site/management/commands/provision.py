"""`manage.py provision`: reach the servers, bring the database up to date, make what a new installation needs."""

from typing import Any

import psycopg
import redis
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand

from metrics.storage.connection import connect
from metrics.storage.errors import ShardCountMismatch
from telemetry_site.env import BadSetting, without_password
from telemetry_site.provision import provision

PATIENCE = 5  # seconds


class Command(BaseCommand):
    help = "Migrates the database and makes the first admin and the keys that are missing. May be run again."
    requires_system_checks: list[str] = []  # they run in `make check`; each start need not wait for them

    def handle(self, *args: Any, **options: Any) -> None:
        _reach_database()
        _reach_redis()
        try:
            call_command("migrate", interactive=False, verbosity=0, skip_checks=True)
        except ShardCountMismatch as error:
            raise BadSetting("TELEMETRY_SHARDS", str(settings.SHARDS), str(error)) from None
        provision()


def _reach_database() -> None:
    try:
        connect().close()  # not through the pool, which would try for seconds and not say why
    except psycopg.OperationalError as error:
        reason = " ".join(str(error).split())
        raise BadSetting(
            "DATABASE_URL", without_password(settings.DATABASE_URL), f"no database answers ({reason})"
        ) from None


def _reach_redis() -> None:
    try:
        with redis.Redis.from_url(
            settings.REDIS_URL, socket_connect_timeout=PATIENCE, socket_timeout=PATIENCE
        ) as client:
            client.ping()
    except redis.RedisError as error:
        raise BadSetting("REDIS_URL", without_password(settings.REDIS_URL), f"no Redis answers ({error})") from None
