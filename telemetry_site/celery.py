"""The Celery application for background tasks such as merging and retention."""

import os
from typing import Any

from celery import Celery, bootsteps
from celery.signals import setup_logging, worker_shutdown

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "telemetry_site.settings")

app = Celery("telemetry_site")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


class AlertsStep(bootsteps.StartStopStep):
    """Run the evaluation and delivery loops in every worker, started before it connects to its broker."""

    def start(self, parent: Any) -> None:
        from django.conf import settings

        from alerts.loops import start_loops
        from telemetry_site import process_caches

        process_caches.reset_after_fork()
        self.loops = start_loops() if settings.ALERTS_IN_WORKER else []

    def stop(self, parent: Any) -> None:
        from alerts.loops import stop_loops

        stop_loops(self.loops)


class BusStep(bootsteps.StartStopStep):
    """Run the event bus in every worker, if a target is configured."""

    def start(self, parent: Any) -> None:
        from telemetry_site.bus.loops import start_loops

        self.loops = start_loops()

    def stop(self, parent: Any) -> None:
        from telemetry_site.bus.loops import stop_loops

        stop_loops(self.loops)


class CollectorsStep(bootsteps.StartStopStep):
    """Run the orchestrator of collectors in every worker."""

    def start(self, parent: Any) -> None:
        from django.conf import settings

        from ingest.collection.loop import start_loops

        self.loops = start_loops() if settings.COLLECTORS_IN_WORKER else []

    def stop(self, parent: Any) -> None:
        from ingest.collection.loop import stop_loops

        stop_loops(self.loops)


app.steps["worker"].add(AlertsStep)
app.steps["worker"].add(CollectorsStep)
app.steps["worker"].add(BusStep)


@setup_logging.connect
def keep_django_logging(**kwargs: Any) -> None:
    """Keep the logging of the settings: Celery configures its own unless this signal has a receiver."""


@worker_shutdown.connect
def close_pools(**kwargs: Any) -> None:
    """Close the connection pools: an open pool delays the end of the process for seconds."""
    from django.db import connection

    from metrics.storage import connection as storage

    storage.close_pools()
    connection.close_pool()  # type: ignore[attr-defined]  # only of the PostgreSQL backend
