"""The Celery application: merging, retention and everything else that may wait a second."""

import os
from typing import Any

from celery import Celery, bootsteps
from celery.signals import setup_logging, worker_shutdown

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "telemetry_site.settings")

app = Celery("telemetry_site")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


class AlertsStep(bootsteps.StartStopStep):
    """With every worker, before it looks for its broker: judging what is stored, and telling of it."""

    def start(self, parent: Any) -> None:
        from alerts.evaluation import worker

        worker.start()

    def stop(self, parent: Any) -> None:
        from alerts.evaluation import worker

        worker.stop()


app.steps["worker"].add(AlertsStep)


@setup_logging.connect
def log_as_settings_say(**kwargs: Any) -> None:
    """Somebody who listens here keeps Celery from formatting the log its own way."""


@worker_shutdown.connect
def close_pools(**kwargs: Any) -> None:
    """A pool that is left open holds the end of the process up for seconds."""
    from django.db import connection

    from metrics.storage import connection as storage

    storage.close_pools()
    connection.close_pool()  # type: ignore[attr-defined]  # PostgreSQL alone has one
