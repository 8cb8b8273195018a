"""Channels, routes, notices and deliveries."""

from urllib.parse import urlsplit

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from alerts.models.alerts import Alert
from alerts.models.names import ID_LENGTH, new_channel_id, new_delivery_id, new_route_id
from alerts.models.rules import Level
from metrics.models import NAME_LENGTH, Audited


class ChannelKind(models.TextChoices):
    """Kind of a channel."""

    WEBHOOK = "webhook"
    EMAIL = "email"
    APPRISE = "apprise"
    ACTION = "action"


class Channel(Audited):
    """Target of notifications, which rules and routes refer to by name."""

    channel_id = models.CharField(max_length=ID_LENGTH, unique=True, default=new_channel_id, editable=False)
    name = models.CharField(max_length=NAME_LENGTH, unique=True)
    kind = models.CharField(max_length=7, choices=ChannelKind.choices)
    url = models.TextField(
        blank=True, help_text="URL of a webhook, or Apprise URL. Often a secret: never shown completely."
    )
    addresses = ArrayField(models.EmailField(), default=list, blank=True)
    action = models.CharField(
        max_length=NAME_LENGTH, blank=True, help_text="Name of a registered action (TELEMETRY_ALERT_ACTIONS)."
    )
    secret = models.CharField(
        max_length=NAME_LENGTH, blank=True, help_text="Key that signs webhook requests (HMAC-SHA256)."
    )
    enabled = models.BooleanField(default=True)
    gather_seconds = models.PositiveIntegerField(
        default=0,
        help_text="Seconds after a message during which further alerts are collected into one message. 0: no grouping.",
    )
    send_resolved = models.BooleanField(default=True)
    created_by = models.CharField(max_length=2 * NAME_LENGTH, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True, db_default=Now())

    audit_hidden = frozenset({"url", "secret"})

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def target(self) -> str:
        """Return the target without secrets; of an Apprise URL the scheme only, because its host is often a token."""
        if self.kind == ChannelKind.EMAIL:
            return ", ".join(self.addresses)
        if self.kind == ChannelKind.ACTION:
            return self.action
        parts = urlsplit(self.url)
        return parts.scheme if self.kind == ChannelKind.APPRISE else f"{parts.scheme}://{parts.hostname}"


class Route(Audited):
    """Sends alerts to channels in addition to those of their rules, repeats them and escalates unacknowledged ones."""

    route_id = models.CharField(max_length=ID_LENGTH, unique=True, default=new_route_id, editable=False)
    name = models.CharField(max_length=NAME_LENGTH, unique=True)
    enabled = models.BooleanField(default=True)
    levels = ArrayField(models.CharField(max_length=9, choices=Level.choices), default=list, blank=True)
    device_groups = ArrayField(models.CharField(max_length=NAME_LENGTH), default=list, blank=True)
    weekly = models.JSONField(
        null=True, blank=True, help_text="Recurring window in which the route is active, as in silences. null: always."
    )
    channels = ArrayField(models.CharField(max_length=NAME_LENGTH), default=list, blank=True)
    repeat_minutes = models.PositiveIntegerField(
        null=True, blank=True, help_text="Minutes between repeats until the alert is acknowledged. null: no repeats."
    )
    escalation = models.JSONField(
        default=list,
        blank=True,
        help_text='Steps for unacknowledged alerts: [{"after_minutes": 10, "channels": ["name"]}, …].',
    )
    created_by = models.CharField(max_length=2 * NAME_LENGTH, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True, db_default=Now())

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class NoticeKind(models.TextChoices):
    """Reason of a notice."""

    FIRED = "fired"
    RESOLVED = "resolved"
    REPEATED = "repeated"
    ESCALATED = "escalated"
    UNSILENCED = "unsilenced", "silence ended while the alert is active"


class NoticeStatus(models.TextChoices):
    """Status of a notice."""

    WAITING = "waiting"
    SENT = "sent"
    FAILED = "failed"
    SILENCED = "silenced"
    UNCONFIGURED = "unconfigured"
    DROPPED = "dropped", "no longer needed"


class Notice(models.Model):
    """Notification of one alert to one channel, written in the transaction of the alert change that it reports."""

    alert = models.ForeignKey(Alert, models.CASCADE, related_name="notices")
    channel_name = models.CharField(max_length=NAME_LENGTH)
    kind = models.CharField(max_length=10, choices=NoticeKind.choices)
    status = models.CharField(max_length=12, choices=NoticeStatus.choices, default=NoticeStatus.WAITING)
    due_at = models.DateTimeField(db_default=Now())
    created_at = models.DateTimeField(db_default=Now())
    delivery = models.ForeignKey("Delivery", models.SET_NULL, null=True, related_name="notices")
    reason = models.CharField(
        max_length=1000, blank=True, help_text="Silence, reason for not sending, or escalation step."
    )

    class Meta:
        indexes = [
            models.Index(fields=["due_at"], condition=Q(status="waiting"), name="notice_waiting"),
            models.Index(fields=["alert"], name="notice_of_alert"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} to {self.channel_name}"


class DeliveryStatus(models.TextChoices):
    """Status of a delivery."""

    WAITING = "waiting"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"


class Delivery(models.Model):
    """One message to one channel with one or more notices: claimed with a lease and sent at least once."""

    delivery_id = models.CharField(max_length=ID_LENGTH, unique=True, default=new_delivery_id, editable=False)
    channel = models.ForeignKey(Channel, models.SET_NULL, null=True, related_name="deliveries")
    channel_name = models.CharField(max_length=NAME_LENGTH)
    title = models.CharField(max_length=2 * NAME_LENGTH)
    test = models.BooleanField(default=False)
    payload = models.JSONField(help_text="Content of the message, the same in every attempt.")
    status = models.CharField(max_length=7, choices=DeliveryStatus.choices, default=DeliveryStatus.WAITING)
    attempts = models.PositiveSmallIntegerField(default=0)
    due_at = models.DateTimeField(db_default=Now())
    leased_until = models.DateTimeField(null=True)
    answer_status = models.IntegerField(null=True)
    answer = models.TextField(blank=True, help_text="First 1000 characters of the response.")
    error = models.TextField(blank=True)
    accepted_by = ArrayField(
        models.TextField(),
        default=list,
        db_default=[],
        help_text="Recipients that accepted an attempt in which others failed.",
    )
    created_at = models.DateTimeField(db_default=Now())
    sent_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "deliveries"
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["due_at"], condition=Q(status__in=["waiting", "sending"]), name="delivery_to_do"),
            models.Index(fields=["channel_name", "-id"], name="delivery_by_channel"),
        ]

    def __str__(self) -> str:
        return self.title
