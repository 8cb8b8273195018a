from typing import Any

from django.apps import AppConfig
from django.db import connections
from django.db.models.signals import post_migrate

_FIRST_ROWS = (
    "INSERT INTO metrics_revision (id, number) VALUES (1, 0) ON CONFLICT DO NOTHING",
    "INSERT INTO metrics_head (shard, seq, checksum) VALUES (0, 0, '') ON CONFLICT DO NOTHING",
    "INSERT INTO metrics_merged (shard, seq) VALUES (0, 0) ON CONFLICT DO NOTHING",
)


class MetricsConfig(AppConfig):
    name = "metrics"

    def ready(self) -> None:
        post_migrate.connect(first_rows, sender=self)


def first_rows(using: str, **kwargs: Any) -> None:
    """The rows that are only ever updated; after `flush` as well as after `migrate`."""
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT to_regclass('metrics_merged')")
        if cursor.fetchone()[0] is not None:
            for statement in _FIRST_ROWS:
                cursor.execute(statement)
