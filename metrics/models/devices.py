"""Devices, the groups that they are in, and their series."""

import zlib
from typing import Any

from django.conf import settings
from django.contrib.postgres.indexes import GinIndex
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

from metrics.models.audit import Audited
from metrics.models.revision import Announced
from rest.caller import Caller
from rest.names import NAME_LENGTH


def within(degrees: int) -> list[Any]:
    """Validators of a coordinate."""
    return [MinValueValidator(-degrees), MaxValueValidator(degrees)]


class DeviceGroupQuerySet(models.QuerySet["DeviceGroup"]):
    def visible_to(self, caller: Caller) -> "DeviceGroupQuerySet":
        """The groups that a caller sees."""
        if caller.device_id is not None:
            return self.none()
        return self if caller.groups is None else self.filter(name__in=caller.groups)


class DeviceGroup(Audited, Announced):
    """Devices that are asked about together: a site, a customer, a kind of machine. A device may be in several.

    People see the devices of the groups that they are members of. Keys may be bound to a group.
    """

    name = models.CharField(max_length=NAME_LENGTH, unique=True)
    description = models.TextField(blank=True)
    members = models.ManyToManyField(
        settings.AUTH_USER_MODEL,
        blank=True,
        related_name="device_groups",
        help_text="People who see the devices of this group; admins see all devices.",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True, db_default=Now())

    objects = DeviceGroupQuerySet.as_manager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class DeviceQuerySet(models.QuerySet["Device"]):
    def visible_to(self, caller: Caller) -> "DeviceQuerySet":
        """The devices that a caller sees: whatever is listed, shown, counted or asked about goes through here."""
        if caller.device_id is not None:
            return self.filter(device_id=caller.device_id)
        if caller.groups is None:
            return self
        return self.in_groups(DeviceGroup.objects.visible_to(caller))

    def in_groups(self, groups: DeviceGroupQuerySet) -> "DeviceQuerySet":
        """Those that are in one of these groups, asked for by number: of a group that is known by its name alone
        PostgreSQL cannot tell whether it is a large one."""
        membership = Device.groups.through.objects.filter(devicegroup_id__in=list(groups.values_list("pk", flat=True)))
        return self.filter(pk__in=membership.values("device_id"))


class Device(Audited):
    """Something that sends measurements, known by the `device_id` that it calls itself.

    Ingestion makes devices on first sight, in SQL and with no more than their id, so every other field has a default
    in the database.
    """

    device_id = models.CharField(max_length=NAME_LENGTH, unique=True)
    name = models.CharField(max_length=NAME_LENGTH, blank=True, help_text="What people call it; its id where empty.")
    expected_interval = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="Seconds between measurements; a device that is later than three of them is late.",
    )
    device_type = models.CharField(
        max_length=NAME_LENGTH, blank=True, default="", db_default="", help_text="What kind it is."
    )
    description = models.TextField(blank=True, default="", db_default="")
    location = models.CharField(
        max_length=NAME_LENGTH, blank=True, default="", db_default="", help_text="Where it is, in words."
    )
    latitude = models.FloatField(null=True, blank=True, validators=within(90), help_text="Degrees north (WGS 84).")
    longitude = models.FloatField(null=True, blank=True, validators=within(180), help_text="Degrees east (WGS 84).")
    # Names and values, as a point has them, so that both are asked for in the same words.
    tags = models.JSONField(default=dict, blank=True, db_default=models.Value({}, models.JSONField()))
    metadata = models.JSONField(default=dict, blank=True, db_default=models.Value({}, models.JSONField()))
    groups = models.ManyToManyField(DeviceGroup, blank=True, related_name="devices")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True, db_default=Now())

    objects = DeviceQuerySet.as_manager()
    audit_name = "device_id"

    class Meta:
        ordering = ["device_id"]
        indexes = [
            models.Index(fields=["device_type", "device_id"], name="device_by_type"),
            GinIndex(fields=["tags"], opclasses=["jsonb_path_ops"], name="device_by_tag"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(latitude__isnull=True, longitude__isnull=True)
                | models.Q(
                    latitude__isnull=False,
                    longitude__isnull=False,
                    latitude__range=(-90, 90),
                    longitude__range=(-180, 180),
                ),
                name="whole_position",
                violation_error_message="Latitude (-90 to 90) and longitude (-180 to 180) are given together.",
            )
        ]

    def __str__(self) -> str:
        return self.name or self.device_id

    @property
    def version(self) -> str:
        """What changes with everything that is set up of a device, be it by its own form or by that of a group."""
        groups = sorted(group.pk for group in self.groups.all())
        return f"{self.updated_at.timestamp():.6f}-{zlib.crc32(repr(groups).encode()):08x}"


class Series(models.Model):
    """One metric of one device in one kind of value: the thing whose points are stored in order of time."""

    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="series")
    metric_name = models.CharField(max_length=NAME_LENGTH)
    kind = models.PositiveSmallIntegerField(help_text="metrics.storage.format.codec.Kind")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["device", "metric_name", "kind"], name="one_series_per_kind")]
        indexes = [models.Index(fields=["metric_name"])]

    def __str__(self) -> str:
        return f"{self.device_id}/{self.metric_name}"


class Lane(models.Model):
    """Where the next series of a metric is numbered: from `next` to before `end`, then in a lane of its own anew."""

    metric_name = models.CharField(primary_key=True, max_length=NAME_LENGTH)
    next = models.BigIntegerField()
    end = models.BigIntegerField(db_index=True)
    size = models.PositiveSmallIntegerField()
