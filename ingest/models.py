"""How a sender proves who it is, and what was rejected of it."""

import hashlib
import secrets
from typing import Any

from django.db import models
from django.utils import timezone

from ingest.identity.models import TokenFamily, UsedServiceToken
from ingest.wire.batch import Reason
from metrics.models import NAME_LENGTH, Announced, Audited, Device, DeviceGroup
from rest.caller import Caller, Scope

__all__ = ["ApiKey", "Rejected", "RejectedPacket", "TokenFamily", "UsedServiceToken", "digest_of", "new_key"]

PREFIX_LENGTH = 8
LONGEST_SENDER = 250  # so that all names of a row of the rejected inbox fit an index


def digest_of(key: str) -> bytes:
    """What is stored of a key. The key holds 128 random bits or more, so a plain hash cannot be turned back."""
    return hashlib.sha256(key.encode()).digest()


def new_key() -> str:
    """A key of 192 random bits."""
    return "tk_" + secrets.token_urlsafe(24)


class ApiKey(Audited, Announced):
    """A key of a device (bound to it), of a gateway (bound to a group) or of a program (bound to nothing)."""

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
    last_used_at = models.DateTimeField(null=True, editable=False)  # give or take a minute
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
        """Whether whoever has it may come with it now."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > timezone.now())

    @classmethod
    def issue(
        cls, name: str, scope: str, device: Device | None = None, key: str = "", **more: Any
    ) -> tuple["ApiKey", str]:
        """A new key and its text, which is nowhere to be found afterwards. `key` gives the text from outside."""
        text = key or new_key()
        made = cls.objects.create(
            name=name, scope=scope, device=device, prefix=text[:PREFIX_LENGTH], digest=digest_of(text), **more
        )
        return made, text


class RejectedQuerySet(models.QuerySet["Rejected"]):
    def visible_to(self, caller: Caller) -> "RejectedQuerySet":
        """What was rejected of the devices that a caller sees; whoever sees all devices sees those never made, too."""
        if caller.device_id is None and caller.groups is None:
            return self
        return self.filter(device_id__in=Device.objects.visible_to(caller).values("device_id"))

    def containing(self, words: str) -> "RejectedQuerySet":
        """Those in whose device or metric these words occur; all where there are none."""
        named = models.Q(device_id__icontains=words) | models.Q(metric_name__icontains=words)
        return self.filter(named) if words else self


class Rejected(models.Model):
    """Points of one sender, device and metric that were rejected for one reason. Written by `ingest.rejected`."""

    sender = models.CharField(max_length=LONGEST_SENDER, blank=True)
    device_id = models.CharField("device", max_length=NAME_LENGTH, blank=True)
    metric_name = models.CharField("metric", max_length=NAME_LENGTH, blank=True)
    reason = models.CharField(max_length=16, choices=[(one.value, one.words) for one in Reason])
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    count = models.BigIntegerField(help_text="How many were rejected and have not been replayed since.")
    detail = models.TextField(help_text="Of the last of them.")

    objects = RejectedQuerySet.as_manager()

    class Meta:
        ordering = ["-last_at", "-id"]
        verbose_name_plural = "rejected"
        constraints = [
            models.UniqueConstraint(fields=["sender", "device_id", "metric_name", "reason"], name="rejected_once")
        ]
        indexes = [
            models.Index(fields=["-last_at", "-id"], name="rejected_last"),
            models.Index(fields=["device_id", "metric_name"], name="rejected_device"),
        ]

    def __str__(self) -> str:
        return f"{self.metric_name or 'what cannot be read'} of {self.device_id or 'several devices'}: {self.reason}"


class RejectedPacket(models.Model):
    """Rejected points that can be replayed, packed (ingest.rejected.points)."""

    rejected = models.ForeignKey(Rejected, on_delete=models.CASCADE, related_name="packets")
    points = models.IntegerField()
    size = models.IntegerField(help_text="bytes of the payload")
    payload = models.BinaryField()
