"""Silences and maintenance windows."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

from alerts.models.names import ID_LENGTH, new_silence_id
from alerts.models.rules import Level
from metrics.models import NAME_LENGTH, Audited


class SilenceKind(models.TextChoices):
    """Kind of a silence: a maintenance window is planned, and its devices are shown as in maintenance."""

    SILENCE = "silence"
    MAINTENANCE = "maintenance"


def _names(length: int = NAME_LENGTH) -> ArrayField:
    return ArrayField(models.CharField(max_length=length), default=list, blank=True)


class Silence(Audited):
    """Suppresses notifications of the alerts that match every non-empty list below.

    Alerts are still opened and shown; channels that were notified of an alert are notified when it is resolved.
    """

    silence_id = models.CharField(max_length=ID_LENGTH, unique=True, default=new_silence_id, editable=False)
    kind = models.CharField(max_length=11, choices=SilenceKind.choices, default=SilenceKind.SILENCE)
    device_ids = _names()
    device_groups = _names()
    metric_names = _names()
    rule_ids = _names(ID_LENGTH)
    levels = ArrayField(models.CharField(max_length=9, choices=Level.choices), default=list, blank=True)
    alert_id = models.CharField(
        max_length=ID_LENGTH, blank=True, help_text="Silence this alert only, until it is resolved."
    )
    starts_at = models.DateTimeField(default=timezone.now)
    ends_at = models.DateTimeField(help_text="End of the silence, at most 366 days after its start.")
    weekly = models.JSONField(
        null=True,
        blank=True,
        help_text='{"days": [0 (Monday), …], "from": "22:00", "to": "06:00", "timezone": …}: active within this window'
        " only. null: always.",
    )
    reason = models.CharField(max_length=1000)
    created_by = models.CharField(max_length=2 * NAME_LENGTH, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True, db_default=Now())

    other_devices = False  # in responses: whether the silence also concerns devices that the caller does not see
    audit_name = "silence_id"

    class Meta:
        ordering = ["-ends_at", "-id"]
        indexes = [models.Index(fields=["ends_at"], name="silence_by_end")]

    def __str__(self) -> str:
        return self.reason
