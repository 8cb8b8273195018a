"""What was answered to requests that may come again."""

from datetime import datetime, timedelta

from django.db import models
from django.utils import timezone

from rest.names import NAME_LENGTH


class IdempotentAnswer(models.Model):
    """The answer to a POST with an Idempotency-Key, committed together with what it did (rest.idempotency)."""

    KEPT = timedelta(hours=24)

    caller = models.CharField(max_length=2 * NAME_LENGTH)
    key = models.CharField(max_length=255)
    digest = models.BinaryField(help_text="Of method, address and body.")
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
        """Delete the answers that no retry gets any more; returns how many."""
        many, _ = cls.objects.filter(at__lte=(now or timezone.now()) - cls.KEPT).delete()
        return many
