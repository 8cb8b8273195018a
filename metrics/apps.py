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
        from metrics.devices.group_membership import invalidate_caches, receive_group_change
        from metrics.events import model_changes as model_events
        from metrics.events.ingest import record_created_devices
        from metrics.models import Device, MetricDefinition
        from metrics.storage import connection, series_registry
        from metrics.storage.write import group_commit
        from rest.request_context import CountingCursor
        from rest.request_stats import request_counters

        connection.cursor_factory = CountingCursor
        series_registry.creation_listener = record_created_devices
        group_commit.commit_listeners.add(request_counters.stored)

        post_migrate.connect(create_initial_rows, sender=self)
        m2m_changed.connect(invalidate_caches, sender=Device.groups.through)
        m2m_changed.connect(receive_group_change, sender=Device.groups.through)
        model_changes.watch_audited_models()
        for model in (User, Group):
            model_changes.watch_model(model)
        model_events.announce_model(Device, model_events.device_event)
        model_events.announce_model(MetricDefinition, model_events.metric_event)
        sign_ins.connect_signals()


def create_initial_rows(using: str, **kwargs: Any) -> None:
    """Create the rows that are only updated later, after `flush` as well as after `migrate`."""
    from metrics.storage import shards

    with connections[using].cursor() as cursor:
        cursor.execute("SELECT to_regclass('metrics_merged')")
        if cursor.fetchone()[0] is not None:
            cursor.execute("INSERT INTO metrics_revision (id, number) VALUES (1, 0) ON CONFLICT DO NOTHING")
            shards.create_shard_rows(cursor)
