"""The revision: how every process learns within a second that keys, definitions or memberships changed."""

from typing import Any

from django.db import models


class Revision(models.Model):
    """One row whose number moves whenever keys, definitions or devices do: every process notices within a second."""

    number = models.BigIntegerField(default=0)

    @classmethod
    def move(cls) -> None:
        cls.objects.filter(pk=1).update(number=models.F("number") + 1)

    @classmethod
    def moved(cls) -> int:
        """Move it, and return its number, which is that of all that the caller's transaction changes."""
        cls.move()
        return cls.objects.values_list("number", flat=True).get(pk=1)


class Announced(models.Model):
    """A row that every process remembers: saving or deleting it moves the revision."""

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        super().save(*args, **kwargs)
        Revision.move()

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        deleted = super().delete(*args, **kwargs)
        Revision.move()
        return deleted
