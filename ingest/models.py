"""How a sender proves who it is."""

import hashlib
import secrets
from typing import Any

from django.db import models
from django.utils import timezone

from metrics.access import Scope
from metrics.models import NAME_LENGTH, Announced, Audited, Device

PREFIX_LENGTH = 8


def digest_of(key: str) -> bytes:
    """What is stored of a key. The key holds 128 random bits or more, so a plain hash cannot be turned back."""
    return hashlib.sha256(key.encode()).digest()


def new_key() -> str:
    """A key of 192 random bits."""
    return "tk_" + secrets.token_urlsafe(24)


class ApiKey(Audited, Announced):
    """A key of a device (bound to it) or of a gateway or a program (bound to nothing)."""

    name = models.CharField(max_length=NAME_LENGTH)
    prefix = models.CharField(max_length=PREFIX_LENGTH, editable=False)
    digest = models.BinaryField(max_length=32, unique=True, editable=False)
    scope = models.CharField(max_length=8, choices=Scope.choices, default=Scope.INGEST)
    device = models.ForeignKey(Device, null=True, blank=True, on_delete=models.CASCADE, related_name="keys")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["name", "pk"]
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

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
