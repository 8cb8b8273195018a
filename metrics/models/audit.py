"""The audit: who did what to which object. Written by metrics.audit, numbered and chained by PostgreSQL."""

import json
from typing import Any, ClassVar

from django.db import models, transaction

from rest.names import NAME_LENGTH


class AuditEntry(models.Model):
    """One thing that was done. Never changed, never deleted: triggers refuse it, and `verify_audit` finds it out.

    What a transaction has done is numbered when it commits, so that numbers are without gaps and in order of commit,
    and nobody waits for a transaction that takes its time.
    """

    number = models.BigIntegerField(unique=True, null=True, help_text="Place in the chain, from 1 on without gaps.")
    at = models.DateTimeField(help_text="When it was done (UTC).")
    actor = models.CharField(
        max_length=2 * NAME_LENGTH, help_text="user:NAME, key:NUMBER:NAME, or command:NAME on the server."
    )
    request_id = models.CharField(max_length=NAME_LENGTH, blank=True, help_text="The request that did it.")
    address = models.CharField(max_length=45, blank=True, help_text="Where the request came from.")
    action = models.CharField(max_length=50, help_text="created, changed, deleted, signed in, or what else was done.")
    object_type = models.CharField(max_length=50, help_text="What kind of object.")
    object_id = models.CharField(max_length=2 * NAME_LENGTH, help_text="Which one, by the name that it is known by.")
    before = models.TextField(blank=True, help_text="JSON, as it was written: what was there before.")
    after = models.TextField(blank=True, help_text="JSON, as it was written: what is there since.")
    heads = models.TextField(blank=True, help_text="shard:seq:checksum of the journal's last commits at that time.")
    digest = models.BinaryField(help_text="SHA-256 of what was done")
    checksum = models.BinaryField(null=True, help_text="SHA-256 of the checksum before, the digest, number and heads")

    class Meta:
        verbose_name = "audit entry"
        verbose_name_plural = "audit entries"
        ordering = ["-number"]
        indexes = [
            models.Index(fields=["actor", "-number"], name="audit_actor"),
            models.Index(fields=["object_type", "object_id", "-number"], name="audit_object"),
            models.Index(fields=["action", "-number"], name="audit_action"),
            models.Index(fields=["at"], name="audit_at"),
        ]

    def __str__(self) -> str:
        return f"{self.number}: {self.actor} {self.action} {self.object_type} {self.object_id}"

    @property
    def was(self) -> dict[str, Any]:
        return json.loads(self.before or "{}")

    @property
    def became(self) -> dict[str, Any]:
        return json.loads(self.after or "{}")


class AuditHead(models.Model):
    """The end of the audit's chain, one row: the last entry's number and checksum."""

    number = models.BigIntegerField()
    checksum = models.BinaryField()


class Audited(models.Model):
    """A model whose changes metrics.audit.model_changes records, in the transaction of the change.

    audit_name    the field that people know it by
    audit_hidden  fields of which only that they changed is told
    """

    audit_name: ClassVar[str] = "name"
    audit_hidden: ClassVar[frozenset[str]] = frozenset()

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        with transaction.atomic(savepoint=False):
            super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        with transaction.atomic(savepoint=False):
            return super().delete(*args, **kwargs)
