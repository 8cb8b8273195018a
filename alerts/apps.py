from typing import Any

from django.apps import AppConfig
from django.db import connections
from django.db.models.signals import post_migrate

from metrics.apps import create_initial_rows as first_rows_of_storage


class AlertsConfig(AppConfig):
    name = "alerts"
    verbose_name = "Alerts"

    def ready(self) -> None:
        from alerts import checks  # noqa: F401 - registers the system check
        from alerts.summary import DatabaseAlertSummary
        from metrics.alert_summary import register_alert_summary

        register_alert_summary(DatabaseAlertSummary())
        post_migrate.connect(first_rows, sender=self)


def first_rows(using: str, **kwargs: Any) -> None:
    """Insert the rows that are only updated later, after `migrate` and after `flush`.

    Evaluation begins with the points that are stored from now on, not when the first evaluator starts: points stored in
    between may open alerts.
    """
    first_rows_of_storage(using)  # the receiver of the metrics app may run later
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT to_regclass('alerts_rulegeneration')")
        if cursor.fetchone()[0] is not None:
            cursor.execute("INSERT INTO alerts_rulegeneration (id, number) VALUES (1, 0) ON CONFLICT DO NOTHING")
            cursor.execute("DELETE FROM alerts_cursor WHERE shard NOT IN (SELECT shard FROM metrics_head)")
            cursor.execute(
                "INSERT INTO alerts_cursor (shard, seq, at) SELECT shard, seq, now() FROM metrics_head"
                " ON CONFLICT DO NOTHING"
            )
