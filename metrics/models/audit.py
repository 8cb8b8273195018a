"""Models of the audit log: the actions of users, API keys and commands. PostgreSQL numbers and chains the entries."""

import json
from typing import Any, ClassVar

from django.db import models, transaction

from rest.names import NAME_LENGTH


class AuditEntry(models.Model):
    """One audited action. Entries are never changed or deleted: triggers refuse it, and `verify_audit` detects it.

    Entries are numbered when their transaction commits, so that numbers have no gaps and follow the order of commits,
    and no transaction waits for a longer one.
    """

    number = models.BigIntegerField(
        unique=True, null=True, help_text="Position in the checksum chain, from 1 on without gaps."
    )
    at = models.DateTimeField(help_text="Time of the action (UTC).")
    actor = models.CharField(
        max_length=2 * NAME_LENGTH, help_text="user:NAME, key:NUMBER:NAME, or command:NAME on the server."
    )
    request_id = models.CharField(max_length=NAME_LENGTH, blank=True, help_text="Request ID of the action.")
    address = models.CharField(max_length=45, blank=True, help_text="IP address of the client.")
    action = models.CharField(max_length=50, help_text="created, changed, deleted, signed in, or another action.")
    object_type = models.CharField(max_length=50, help_text="Type of the object.")
    object_id = models.CharField(max_length=2 * NAME_LENGTH, help_text="Name of the object.")
    before = models.TextField(blank=True, help_text="JSON as it was written: the fields before the action.")
    after = models.TextField(blank=True, help_text="JSON as it was written: the fields after the action.")
    heads = models.TextField(blank=True, help_text="shard:seq:checksum of the journal's last commits at that time.")
    digest = models.BinaryField(help_text="SHA-256 of the action")
    checksum = models.BinaryField(null=True, help_text="SHA-256 of the previous checksum, the digest, number and heads")

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
    """The head of the audit chain, one row: number and checksum of the last entry."""

    number = models.BigIntegerField()
    checksum = models.BinaryField()


class Audited(models.Model):
    """A model whose changes are written to the audit log in the same transaction (metrics.audit.rows).

    audit_name    the field with the name of an object
    audit_hidden  fields whose values are not recorded, only that they changed
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
