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
    RECOVERED = "recovered", "values recovered"
    TIMEOUT = "timeout", "no breach within the auto-resolve timeout"
    RETROACTIVE = "retroactive", "already recovered when late data arrived"
    RULE = "rule", "rule changed or deleted"
    DEVICE = "device", "device deleted"


class Incident(models.Model):
    """Alerts that have a common cause: a site, a gateway, or one rule on many devices."""

    incident_id = models.CharField(max_length=ID_LENGTH, unique=True, default=new_incident_id, editable=False)
    cause = models.CharField(max_length=2 * NAME_LENGTH, help_text="Common cause of the alerts, such as group:site a.")
    title = models.CharField(max_length=2 * NAME_LENGTH)
    began_at = models.DateTimeField(default=timezone.now)
    last_at = models.DateTimeField(
        default=timezone.now, help_text="Time at which the latest alert joined the incident."
    )

    class Meta:
        indexes = [models.Index(fields=["cause", "-last_at"], name="incident_by_cause")]

    def __str__(self) -> str:
        return self.title


class AlertQuerySet(models.QuerySet["Alert"]):
    def visible_to(self, caller: Caller) -> "AlertQuerySet":
        """Return the alerts of devices that the caller may see."""
        if caller.sees_all:
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
    device_name = models.CharField(max_length=NAME_LENGTH, help_text="device_id, kept after the device is deleted.")
    metric_name = models.CharField(max_length=NAME_LENGTH)
    series = models.BigIntegerField(
        null=True, help_text="ID of the evaluated series; null for rules that evaluate no points."
    )
    level = models.CharField(max_length=9, choices=Level.choices)
    status = models.CharField(max_length=12, choices=Status.choices, default=Status.ACTIVE)
    shadow = models.BooleanField(default=False)
    retroactive = models.BooleanField(default=False, help_text="Opened from late data; no notifications are sent.")
    value = models.JSONField(null=True, help_text="Evaluated value that triggered the alert.")
    worst_value = models.JSONField(null=True, help_text="Value furthest beyond the threshold while the alert is open.")
    threshold = models.JSONField(null=True)
    message = models.TextField(help_text="Summary in one line.")
    description = models.TextField(blank=True)
    runbook_url = models.CharField(max_length=2000, blank=True)
    evidence = models.JSONField(
        default=dict, help_text="Details of the evaluation: values of the window, count, expected range, …"
    )
    triggered_at = models.DateTimeField(help_text="Time of the measurement that triggered the alert.")
    raised_at = models.DateTimeField(default=timezone.now, help_text="Time at which the alert was opened.")
    last_breach_at = models.DateTimeField(help_text="Time of the latest measurement that breached the condition.")
    acknowledged_by = models.CharField(max_length=2 * NAME_LENGTH, blank=True)
    acknowledged_at = models.DateTimeField(null=True)
    acknowledgement_note = models.TextField(blank=True)
    resolved_by = models.CharField(max_length=2 * NAME_LENGTH, blank=True)
    resolved_at = models.DateTimeField(null=True)
    resolution = models.CharField(max_length=12, choices=Resolution.choices, blank=True)
    resolution_note = models.TextField(blank=True)
    owner = models.CharField(max_length=2 * NAME_LENGTH, blank=True, help_text="Person who handles the alert.")
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
            models.Index(fields=["resolved_at"], name="alert_by_end"),
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
    FAILED = "failed", "notification failed"
    ESCALATED = "escalated"
    JOINED = "joined", "joined an incident"
    FEEDBACK = "feedback"


class AlertEvent(models.Model):
    """Event in the timeline of an alert. Never changed."""

    alert = models.ForeignKey(Alert, models.CASCADE, related_name="events")
    at = models.DateTimeField(db_default=Now())
    kind = models.CharField(max_length=12, choices=EventKind.choices)
    by = models.CharField(
        max_length=2 * NAME_LENGTH, help_text="user:NAME, key:NUMBER:NAME, or a component of the site."
    )
    note = models.TextField(blank=True)
    details = models.JSONField(default=dict)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.kind} by {self.by}"
