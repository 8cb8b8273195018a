"""The revision: the number by which processes notice within a second that keys, definitions or memberships changed."""

from typing import Any

from django.db import models


class Revision(models.Model):
    """One row whose number increases with every change of keys, definitions or devices."""

    number = models.BigIntegerField(default=0)

    @classmethod
    def move(cls) -> None:
        cls.objects.filter(pk=1).update(number=models.F("number") + 1)

    @classmethod
    def moved(cls) -> int:
        """Increase the revision and return it; it applies to all changes of the caller's transaction."""
        cls.move()
        return cls.objects.values_list("number", flat=True).get(pk=1)


class Announced(models.Model):
    """A model that processes cache: saving or deleting an object increases the revision."""

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        super().save(*args, **kwargs)
        Revision.move()

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        deleted = super().delete(*args, **kwargs)
        Revision.move()
        return deleted
