"""Alerts, their events, and the incidents that group them."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from alerts.models.names import ID_LENGTH, new_alert_id, new_incident_id
from alerts.models.rules import Level, Rule
from metrics.models import NAME_LENGTH, Device
from rest.caller import Caller


class Status(models.TextChoices):
    """Status of an alert: active, then acknowledged, then resolved; active alerts may be resolved directly."""

    ACTIVE = "active"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


OPEN_STATUSES = (Status.ACTIVE, Status.ACKNOWLEDGED)


class Resolution(models.TextChoices):
    """Reason of the resolution of an alert."""

    PERSON = "person", "by a person"
    RECOVERED = "recovered", "the values are well again"
    TIMEOUT = "timeout", "no further breach for as long as the rule waits"
    RETROACTIVE = "retroactive", "it was over when its measurements came"
    RULE = "rule", "the rule changed or is gone"
    DEVICE = "device", "the device is gone"


class Incident(models.Model):
    """Alerts that have a common cause: a site, a gateway, or one rule on many devices."""

    incident_id = models.CharField(max_length=ID_LENGTH, unique=True, default=new_incident_id, editable=False)
    cause = models.CharField(
        max_length=2 * NAME_LENGTH, help_text="What its alerts have in common, such as group:site a."
    )
    title = models.CharField(max_length=2 * NAME_LENGTH)
    began_at = models.DateTimeField(default=timezone.now)
    last_at = models.DateTimeField(default=timezone.now, help_text="When the last alert joined it.")

    class Meta:
        indexes = [models.Index(fields=["cause", "-last_at"], name="incident_by_cause")]

    def __str__(self) -> str:
        return self.title


class AlertQuerySet(models.QuerySet["Alert"]):
    def visible_to(self, caller: Caller) -> "AlertQuerySet":
        """Return the alerts of devices that the caller may see."""
        if caller.device_id is None and caller.groups is None:
            return self
        return self.filter(device__in=Device.objects.visible_to(caller))

    def open(self) -> "AlertQuerySet":
        return self.filter(status__in=OPEN_STATUSES)

    def without_shadows(self) -> "AlertQuerySet":
        """Return the alerts of live rules."""
        return self.filter(shadow=False)


class Alert(models.Model):
    """Breach of a rule by a series or a device.

    Only alerts.alert_actions changes its status, by conditional UPDATEs.
    """

    alert_id = models.CharField(max_length=ID_LENGTH, unique=True, default=new_alert_id, editable=False)
    rule = models.ForeignKey(Rule, models.SET_NULL, null=True, related_name="alerts")
    rule_name = models.CharField(max_length=NAME_LENGTH)
    rule_version = models.PositiveIntegerField(default=1)
    device = models.ForeignKey(Device, models.SET_NULL, null=True, related_name="alerts")
    device_name = models.CharField(max_length=NAME_LENGTH, help_text="The device_id, also once the device is gone.")
    metric_name = models.CharField(max_length=NAME_LENGTH)
    series = models.BigIntegerField(null=True, help_text="Of the points that were judged; null where there are none.")
    level = models.CharField(max_length=9, choices=Level.choices)
    status = models.CharField(max_length=12, choices=Status.choices, default=Status.ACTIVE)
    shadow = models.BooleanField(default=False)
    retroactive = models.BooleanField(default=False, help_text="Its measurements came late; nobody was told.")
    value = models.JSONField(null=True, help_text="What was judged when it was triggered.")
    worst_value = models.JSONField(null=True, help_text="The value furthest beyond the threshold since.")
    threshold = models.JSONField(null=True)
    message = models.TextField(help_text="What is wrong, in one line.")
    description = models.TextField(blank=True)
    runbook_url = models.CharField(max_length=2000, blank=True)
    evidence = models.JSONField(
        default=dict, help_text="What it was triggered by: values of the window, count, band, …"
    )
    triggered_at = models.DateTimeField(help_text="When it was measured.")
    raised_at = models.DateTimeField(default=timezone.now, help_text="When it was judged.")
    last_breach_at = models.DateTimeField(help_text="When the condition was last met, as it was measured.")
    acknowledged_by = models.CharField(max_length=2 * NAME_LENGTH, blank=True)
    acknowledged_at = models.DateTimeField(null=True)
    acknowledgement_note = models.TextField(blank=True)
    resolved_by = models.CharField(max_length=2 * NAME_LENGTH, blank=True)
    resolved_at = models.DateTimeField(null=True)
    resolution = models.CharField(max_length=12, choices=Resolution.choices, blank=True)
    resolution_note = models.TextField(blank=True)
    owner = models.CharField(max_length=2 * NAME_LENGTH, blank=True, help_text="Whoever has it in hand.")
    incident = models.ForeignKey(Incident, models.SET_NULL, null=True, related_name="alerts")
    updated_at = models.DateTimeField(default=timezone.now)

    objects = AlertQuerySet.as_manager()

    class Meta:
        ordering = ["-triggered_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["rule", "device", "metric_name"],
                condition=Q(status__in=["active", "acknowledged"]),
                name="one_open_alert_per_rule_and_series",
            )
        ]
        indexes = [
            models.Index(fields=["-triggered_at", "-id"], name="alert_by_time"),
            models.Index(fields=["status", "level", "-triggered_at"], name="alert_by_status"),
            models.Index(fields=["device", "-triggered_at"], name="alert_by_device"),
            models.Index(fields=["rule", "-triggered_at"], name="alert_by_rule"),
            models.Index(fields=["rule", "device", "metric_name", "-triggered_at"], name="alert_by_series"),
        ]

    def __str__(self) -> str:
        return self.message


class EventKind(models.TextChoices):
    """Kind of an event in the timeline of an alert."""

    TRIGGERED = "triggered"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"
    ASSIGNED = "assigned"
    COMMENTED = "commented"
    SILENCED = "silenced"
    NOTIFIED = "notified"
    FAILED = "failed", "could not be told"
    ESCALATED = "escalated"
    JOINED = "joined", "joined an incident"


class AlertEvent(models.Model):
    """Event in the timeline of an alert. Never changed."""

    alert = models.ForeignKey(Alert, models.CASCADE, related_name="events")
    at = models.DateTimeField(db_default=Now())
    kind = models.CharField(max_length=12, choices=EventKind.choices)
    by = models.CharField(max_length=2 * NAME_LENGTH, help_text="user:…, key:…, or which part of the site.")
    note = models.TextField(blank=True)
    details = models.JSONField(default=dict)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.kind} by {self.by}"
