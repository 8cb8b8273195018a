"""API keys, the rejected inbox, and the models of collectors."""

import hashlib
import secrets
from typing import Any

from django.db import models
from django.utils import timezone

from ingest.agents.models import AgentConfiguration
from ingest.collection.models import Annotation, Collection, Collector, CollectorState
from ingest.identity.models import TokenFamily, UsedServiceToken
from ingest.wire.batch import RejectionReason
from metrics.models import NAME_LENGTH, Announced, Audited, Device, DeviceGroup
from rest.caller import Caller, Scope

__all__ = [
    "AgentConfiguration", "Annotation", "ApiKey", "Collection", "Collector", "CollectorState", "Rejected",
    "RejectedPacket", "TokenFamily", "UsedServiceToken", "digest_of", "new_key",
]  # fmt: skip

PREFIX_LENGTH = 8
MAX_SENDER_LENGTH = 250  # so that the names of a row of the rejected inbox fit an index


def digest_of(key: str) -> bytes:
    """Return the stored hash of a key. A key has at least 128 random bits, so an unsalted hash cannot be reversed."""
    return hashlib.sha256(key.encode()).digest()


def new_key() -> str:
    """Return a key of 192 random bits."""
    return "tk_" + secrets.token_urlsafe(24)


class ApiKey(Audited, Announced):
    """An API key for one device, for a group of devices (a gateway) or for all devices (a program)."""

    name = models.CharField(max_length=NAME_LENGTH)
    prefix = models.CharField(max_length=PREFIX_LENGTH, editable=False)
    digest = models.BinaryField(max_length=32, unique=True, editable=False)
    scope = models.CharField(max_length=8, choices=Scope.choices, default=Scope.INGEST)
    device = models.ForeignKey(Device, null=True, blank=True, on_delete=models.CASCADE, related_name="keys")
    group = models.ForeignKey(DeviceGroup, null=True, blank=True, on_delete=models.CASCADE, related_name="keys")
    rotated_from = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="successors", editable=False
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, editable=False)  # written once a minute
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name", "pk"]
        verbose_name = "API key"
        indexes = [models.Index(fields=["name", "id"], name="key_name")]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(device__isnull=True) | models.Q(group__isnull=True),
                name="key_bound_once",
                violation_error_message="A key is bound to a device or to a group, not to both.",
            )
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @property
    def is_valid(self) -> bool:
        """Whether the key is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > timezone.now())

    @classmethod
    def issue(
        cls, name: str, scope: str, device: Device | None = None, key: str = "", **more: Any
    ) -> tuple["ApiKey", str]:
        """Create a key; return it with its text, which is not stored. `key` is a given text."""
        text = key or new_key()
        created = cls.objects.create(
            name=name, scope=scope, device=device, prefix=text[:PREFIX_LENGTH], digest=digest_of(text), **more
        )
        return created, text


class RejectedQuerySet(models.QuerySet["Rejected"]):
    def visible_to(self, caller: Caller) -> "RejectedQuerySet":
        """Filter by the devices that a caller may see. Callers without restriction also see devices never created."""
        if caller.sees_all:
            return self
        return self.filter(device_id__in=Device.objects.visible_to(caller).values("device_id"))

    def containing(self, text: str) -> "RejectedQuerySet":
        """Filter by a text in the device or metric; an empty text selects all rows."""
        matches = models.Q(device_id__icontains=text) | models.Q(metric_name__icontains=text)
        return self.filter(matches) if text else self


class Rejected(models.Model):
    """Rejected points of one sender, device, metric and reason. Written by `ingest.rejected`."""

    sender = models.CharField(max_length=MAX_SENDER_LENGTH, blank=True)
    device_id = models.CharField("device", max_length=NAME_LENGTH, blank=True)
    metric_name = models.CharField("metric", max_length=NAME_LENGTH, blank=True)
    reason = models.CharField(max_length=16, choices=[(reason.value, reason.label) for reason in RejectionReason])
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    count = models.BigIntegerField(help_text="Number of rejected points that have not been replayed.")
    detail = models.TextField(help_text="Error of the latest point.")

    objects = RejectedQuerySet.as_manager()

    class Meta:
        ordering = ["-last_at", "-id"]
        verbose_name_plural = "rejected points"
        constraints = [
            models.UniqueConstraint(fields=["sender", "device_id", "metric_name", "reason"], name="rejected_once")
        ]
        indexes = [
            models.Index(fields=["-last_at", "-id"], name="rejected_last"),
            models.Index(fields=["device_id", "metric_name"], name="rejected_device"),
        ]

    def __str__(self) -> str:
        return f"{self.metric_name or 'invalid requests'} of {self.device_id or 'several devices'}: {self.reason}"


class RejectedPacket(models.Model):
    """Rejected points that can be replayed, compressed (`ingest.rejected.point_packets`)."""

    rejected = models.ForeignKey(Rejected, on_delete=models.CASCADE, related_name="packets")
    points = models.IntegerField()
    size = models.IntegerField(help_text="Size of the payload in bytes.")
    payload = models.BinaryField()
