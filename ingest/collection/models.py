"""Collectors, their state, the journal of collections, and annotations of deployments."""

import secrets
from typing import Any

from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

from ingest.collection import encryption
from metrics.models import NAME_LENGTH, Audited, Device
from rest.caller import Caller

ID_LENGTH = 24
MAX_ERROR_LENGTH = 500


def new_collector_id() -> str:
    return "col_" + secrets.token_hex(8)


def new_snapshot_id() -> str:
    return "snap_" + secrets.token_hex(9)


class OfDeviceQuerySet(models.QuerySet[Any]):
    """Rows with a field `device_id`."""

    def visible_to(self, caller: Caller) -> "OfDeviceQuerySet":
        """Filter by the devices that a caller may see. Callers without restriction also see devices never created."""
        if caller.sees_all:
            return self
        return self.filter(device_id__in=Device.objects.visible_to(caller).values("device_id"))


class Collector(Audited):
    """Collects measurements of one target for one device, at an interval."""

    collector_id = models.CharField(max_length=ID_LENGTH, unique=True, default=new_collector_id, editable=False)
    name = models.CharField(max_length=NAME_LENGTH, unique=True)
    kind = models.CharField(max_length=16)
    device_id = models.CharField("device", max_length=NAME_LENGTH, help_text="Device that the points are stored for.")
    configuration = models.JSONField(default=dict, blank=True, help_text="Fields of the kind of collector.")
    encrypted_secrets = models.TextField(blank=True, editable=False)
    metric_prefix = models.CharField(
        max_length=NAME_LENGTH, blank=True, help_text="Text before the name of each metric, such as `web.`."
    )
    interval = models.PositiveIntegerField(default=60, help_text="Seconds between collections.")
    jitter = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="Seconds over which the starts of collectors are spread; empty: the whole interval.",
    )
    deadline = models.PositiveIntegerField(default=10, help_text="Seconds after which a collection is cut off.")
    enabled = models.BooleanField(default=True)
    created_by = models.CharField(max_length=2 * NAME_LENGTH, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True, db_default=Now())

    objects = OfDeviceQuerySet.as_manager()
    audit_hidden = frozenset({"encrypted_secrets"})

    class Meta:
        ordering = ["name"]
        indexes = [models.Index(fields=["device_id"], name="collector_device")]

    def __str__(self) -> str:
        return self.name

    @property
    def secrets(self) -> dict[str, str]:
        """The decrypted secrets by name; never shown."""
        return encryption.decrypt(self.encrypted_secrets)

    @secrets.setter
    def secrets(self, values: dict[str, str]) -> None:
        try:
            is_unchanged = values == self.secrets
        except encryption.SecretsUnreadable:
            is_unchanged = False
        if not is_unchanged:  # each encryption gives another text
            self.encrypted_secrets = encryption.encrypt(values)

    @property
    def secret_names(self) -> list[str]:
        """Names of the secrets that are set; none if they cannot be decrypted."""
        try:
            return sorted(self.secrets)
        except encryption.SecretsUnreadable:
            return []


class CollectorState(models.Model):
    """When a collector is due, who is collecting, and the result of its last collection. Written in SQL.

    lease         random text of the collection that runs; empty: none
    leased_until  time after which another worker may take over
    requested_*   a collection that was requested besides those of the interval; an empty snapshot_id: none
    late_ms       how long after its due time the last collection started
    """

    collector = models.OneToOneField(Collector, primary_key=True, on_delete=models.CASCADE, related_name="state")
    due_at = models.DateTimeField(db_index=True)
    lease = models.CharField(max_length=ID_LENGTH, blank=True, default="")
    leased_until = models.DateTimeField(null=True)
    requested_snapshot_id = models.CharField(max_length=ID_LENGTH, blank=True, default="")
    requested_by = models.CharField(max_length=2 * NAME_LENGTH, blank=True, default="")
    snapshot_id = models.CharField(max_length=ID_LENGTH, blank=True, default="")
    started_at = models.DateTimeField(null=True)
    succeeded_at = models.DateTimeField(null=True)
    late_ms = models.FloatField(null=True)
    duration_ms = models.FloatField(null=True)
    points = models.PositiveIntegerField(default=0)
    rejected = models.PositiveIntegerField(default=0)
    error = models.CharField(max_length=MAX_ERROR_LENGTH, blank=True, default="")
    failures = models.PositiveIntegerField(default=0)  # in a row


class Collection(models.Model):
    """Journal row of one collection. The newest of each collector are kept."""

    snapshot_id = models.CharField(max_length=ID_LENGTH, unique=True)
    collector = models.ForeignKey(Collector, on_delete=models.CASCADE, related_name="collections")
    device_id = models.CharField(max_length=NAME_LENGTH)
    started_at = models.DateTimeField()
    late_ms = models.FloatField()
    duration_ms = models.FloatField()
    points = models.PositiveIntegerField(help_text="Points that were stored.")
    rejected = models.PositiveIntegerField(help_text="Points that were rejected.")
    checksum = models.CharField(max_length=64, blank=True, help_text="SHA-256 of the collected points.")
    error = models.CharField(max_length=MAX_ERROR_LENGTH, blank=True)
    requested_by = models.CharField(max_length=2 * NAME_LENGTH, blank=True)

    objects = OfDeviceQuerySet.as_manager()

    class Meta:
        ordering = ["-started_at", "-id"]
        indexes = [
            models.Index(fields=["collector", "-started_at", "-id"], name="collection_newest"),
            models.Index(fields=["-started_at", "-id"], name="collection_started"),
        ]

    def __str__(self) -> str:
        return self.snapshot_id


class Annotation(models.Model):
    """A mark in the charts of a device: a state that a deployment reached."""

    collector = models.ForeignKey(Collector, null=True, on_delete=models.SET_NULL, related_name="annotations")
    device_id = models.CharField(max_length=NAME_LENGTH)
    at = models.DateTimeField()
    deployment_id = models.CharField(max_length=NAME_LENGTH)
    version = models.CharField(max_length=NAME_LENGTH)
    state = models.CharField(max_length=NAME_LENGTH)

    objects = OfDeviceQuerySet.as_manager()

    class Meta:
        ordering = ["-at", "-id"]
        indexes = [models.Index(fields=["device_id", "-at", "-id"], name="annotation_device")]
        constraints = [
            models.UniqueConstraint(fields=["device_id", "deployment_id", "version", "state"], name="annotation_once")
        ]

    def __str__(self) -> str:
        return f"{self.version} {self.state}"
