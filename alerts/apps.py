from typing import Any

from django.apps import AppConfig
from django.db import connections
from django.db.models.signals import post_migrate
from django.utils import timezone

from metrics.apps import create_initial_rows as create_storage_rows


class AlertsConfig(AppConfig):
    name = "alerts"
    verbose_name = "Alerts"

    def ready(self) -> None:
        from alerts import checks  # noqa: F401 - registers the system check
        from alerts.events import rule_event, silence_event
        from alerts.models import Rule, Silence
        from alerts.summary import DatabaseAlertSummary
        from metrics.alert_summary import register_alert_summary
        from metrics.events.model_changes import announce_model

        register_alert_summary(DatabaseAlertSummary())
        announce_model(Rule, rule_event)
        announce_model(Silence, silence_event)
        post_migrate.connect(create_initial_rows, sender=self)


def create_initial_rows(using: str, **kwargs: Any) -> None:
    """Insert the rows that are only updated later, after `migrate` and after `flush`.

    Evaluation begins with the points that are stored from now on, not when the first evaluator starts: points stored in
    between may open alerts.
    """
    from alerts.models import Cursor, RuleGeneration
    from metrics.models import Head

    create_storage_rows(using)  # the receiver of the metrics app may run later
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s)", [RuleGeneration._meta.db_table])
        if cursor.fetchone()[0] is None:
            return
    RuleGeneration.objects.using(using).get_or_create(pk=1)
    heads = dict(Head.objects.using(using).values_list("shard", "seq"))
    Cursor.objects.using(using).exclude(shard__in=heads).delete()
    Cursor.objects.using(using).bulk_create(
        [Cursor(shard=shard, seq=seq, at=timezone.now()) for shard, seq in heads.items()], ignore_conflicts=True
    )
