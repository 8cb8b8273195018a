"""How a sender proves who it is."""

import hashlib
import secrets
from typing import Any

from django.db import models
from django.utils import timezone

from ingest.identity.models import TokenFamily, UsedServiceToken
from metrics.access import Scope
from metrics.models import NAME_LENGTH, Announced, Audited, Device, DeviceGroup

__all__ = ["ApiKey", "TokenFamily", "UsedServiceToken", "digest_of", "new_key"]

PREFIX_LENGTH = 8


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
