"""Stored responses for idempotency keys."""

from datetime import datetime, timedelta

from django.db import models
from django.utils import timezone

from rest.names import NAME_LENGTH


class IdempotentAnswer(models.Model):
    """The response to a POST with an Idempotency-Key, stored in the transaction of its effects (rest.idempotency)."""

    RETENTION = timedelta(hours=24)

    caller = models.CharField(max_length=2 * NAME_LENGTH)
    key = models.CharField(max_length=255)
    digest = models.BinaryField(help_text="SHA-256 of method, URL and body.")
    status = models.PositiveSmallIntegerField()
    headers = models.JSONField()
    body = models.BinaryField()
    at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["caller", "key"], name="idempotent_answer_of_a_caller")]

    def __str__(self) -> str:
        return f"{self.caller} {self.key}"

    @classmethod
    def drop_expired(cls, now: datetime | None = None) -> int:
        """Delete responses past their retention; return how many."""
        deleted, _ = cls.objects.filter(at__lte=(now or timezone.now()) - cls.RETENTION).delete()
        return deleted
