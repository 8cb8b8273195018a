"""Subscriptions to live values, and the tickets that open streams."""

import secrets
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils import timezone

from dashboard.status_page import models as status_page_models
from metrics.models import NAME_LENGTH

__all__ = ["Subscription", "Ticket", "status_page_models"]

OWNER_LENGTH = 300
ID_LENGTH = 28


def new_subscription_id() -> str:
    """Return a random subscription ID, which cannot be guessed."""
    return "sub_" + secrets.token_urlsafe(18)


def _names() -> Any:
    return ArrayField(models.CharField(max_length=NAME_LENGTH), null=True)


class Subscription(models.Model):
    """The series that a stream sends, and how often at most. Deleted when no stream has used it for two minutes.

    owner  who created it: `user:<pk>`, `key:<pk>` or the name of a service (dashboard.streams.access)
    """

    subscription_id = models.CharField(primary_key=True, max_length=ID_LENGTH, default=new_subscription_id)
    owner = models.CharField(max_length=OWNER_LENGTH)
    device_ids = _names()
    groups = _names()
    metric_names = _names()
    tags = models.JSONField(default=dict)
    max_frequency = models.PositiveIntegerField(help_text="Milliseconds between two values of a series.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        ordering = ["-created_at", "subscription_id"]
        indexes = [models.Index(fields=["owner", "-created_at", "subscription_id"], name="subscription_owner")]

    def __str__(self) -> str:
        return self.subscription_id


class Ticket(models.Model):
    """A ticket that opens one stream; only its hash is stored.

    caller  name and rights of the caller that requested it
    """

    digest = models.BinaryField(max_length=32, primary_key=True, editable=False)
    owner = models.CharField(max_length=OWNER_LENGTH)
    session_key = models.CharField(max_length=40, blank=True)
    caller = models.JSONField()
    expires_at = models.DateTimeField(db_index=True)
