from typing import Any

from django.apps import AppConfig
from django.db import connections
from django.db.models.signals import m2m_changed, post_migrate


class MetricsConfig(AppConfig):
    name = "metrics"
    verbose_name = "Devices and metrics"

    def ready(self) -> None:
        from django.contrib.auth.models import Group, User

        from metrics import checks  # noqa: F401 - registers them
        from metrics.audit import model_changes, sign_ins
        from metrics.devices.group_membership import invalidate_caches
        from metrics.models import Device
        from metrics.storage import connection
        from metrics.storage.write import group_commit
        from rest.request_context import CountingCursor
        from rest.request_stats import request_counters

        connection.cursor_factory = CountingCursor
        group_commit.commit_listeners.add(request_counters.stored)

        post_migrate.connect(create_initial_rows, sender=self)
        m2m_changed.connect(invalidate_caches, sender=Device.groups.through)
        model_changes.watch_audited_models()
        for model in (User, Group):
            model_changes.watch_model(model)
        sign_ins.connect_signals()


def create_initial_rows(using: str, **kwargs: Any) -> None:
    """Create the rows that are only updated later, after `flush` as well as after `migrate`."""
    from metrics.storage import shards

    with connections[using].cursor() as cursor:
        cursor.execute("SELECT to_regclass('metrics_merged')")
        if cursor.fetchone()[0] is not None:
            cursor.execute("INSERT INTO metrics_revision (id, number) VALUES (1, 0) ON CONFLICT DO NOTHING")
            shards.create_shard_rows(cursor)
