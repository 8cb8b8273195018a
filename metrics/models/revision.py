"""The revision: the number by which processes notice that keys, definitions, memberships or devices changed."""

from functools import partial
from typing import Any

from django.db import connection, models, transaction

from metrics.storage import series_registry
from rest.request_context import current

_INCREASE = "UPDATE metrics_revision SET number = number + 1 WHERE id = 1 RETURNING number"


class Revision(models.Model):
    """One row whose number increases with every change of keys, definitions, memberships or devices."""

    number = models.BigIntegerField(default=0)

    @classmethod
    def move(cls) -> int:
        """Increase the revision and return it; it applies to all changes of the caller's transaction.

        This process applies the changes when they are committed, so before any response that reports them.
        """
        with connection.cursor() as cursor:
            cursor.execute(_INCREASE)
            row = cursor.fetchone()
        revision: int = row[0] if row else 0  # no row: the database is being migrated
        transaction.on_commit(partial(_apply, revision))
        return revision


def _apply(revision: int) -> None:
    series_registry.require_revision(revision)
    if (visit := current.get()) is not None:
        visit.revision = max(visit.revision, revision)


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
