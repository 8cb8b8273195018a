"""Devices, device groups and series."""

import zlib
from typing import Any

from django.conf import settings
from django.contrib.postgres.indexes import GinIndex
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

from metrics.models.audit import Audited
from metrics.models.new_names import validate_new_names
from metrics.models.revision import Announced
from rest.caller import Caller
from rest.names import NAME_LENGTH, id_error, name_error


def coordinate_validators(degrees: int) -> list[Any]:
    """Return the validators of a coordinate."""
    return [MinValueValidator(-degrees), MaxValueValidator(degrees)]


class DeviceGroupQuerySet(models.QuerySet["DeviceGroup"]):
    def visible_to(self, caller: Caller) -> "DeviceGroupQuerySet":
        """Return the groups that a caller may see."""
        if caller.device_id is not None:
            return self.none()
        return self if caller.groups is None else self.filter(name__in=caller.groups)


class DeviceGroup(Audited, Announced):
    """A group of devices that are queried together: a site, a customer, a type of machine.

    A device may be in several groups. Users see the devices of the groups that they are members of. API keys may be
    restricted to groups.
    """

    name = models.CharField(max_length=NAME_LENGTH, unique=True)
    description = models.TextField(blank=True)
    members = models.ManyToManyField(
        settings.AUTH_USER_MODEL,
        blank=True,
        related_name="device_groups",
        help_text="Users who see the devices of this group; admins see all devices.",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True, db_default=Now())

    objects = DeviceGroupQuerySet.as_manager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        super().clean()
        validate_new_names(self, name=id_error)


class DeviceQuerySet(models.QuerySet["Device"]):
    def visible_to(self, caller: Caller) -> "DeviceQuerySet":
        """Return the devices that a caller may see. Lists, pages, counts and queries all use this filter."""
        if caller.device_id is not None:
            return self.filter(device_id=caller.device_id)
        if caller.groups is None:
            return self
        return self.in_groups(DeviceGroup.objects.visible_to(caller))

    def in_groups(self, groups: DeviceGroupQuerySet) -> "DeviceQuerySet":
        """Return the devices in one of these groups.

        The groups are resolved to keys first: by name, PostgreSQL could not estimate how many devices a group has.
        """
        membership = Device.groups.through.objects.filter(devicegroup_id__in=list(groups.values_list("pk", flat=True)))
        return self.filter(pk__in=membership.values("device_id"))


class Device(Audited):
    """A source of measurements, identified by its `device_id`.

    Ingestion creates devices at first sight in SQL with nothing but their id, so every other field has a database
    default.
    """

    device_id = models.CharField(max_length=NAME_LENGTH, unique=True)
    name = models.CharField(
        max_length=NAME_LENGTH, blank=True, help_text="Display name; if empty, the device ID is shown."
    )
    expected_interval = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="Seconds between measurements; a device is late after three intervals without data.",
    )
    device_type = models.CharField(
        max_length=NAME_LENGTH, blank=True, default="", db_default="", help_text="Type of device."
    )
    description = models.TextField(blank=True, default="", db_default="")
    location = models.CharField(
        max_length=NAME_LENGTH, blank=True, default="", db_default="", help_text="Description of the place."
    )
    latitude = models.FloatField(
        null=True, blank=True, validators=coordinate_validators(90), help_text="Degrees north (WGS 84)."
    )
    longitude = models.FloatField(
        null=True, blank=True, validators=coordinate_validators(180), help_text="Degrees east (WGS 84)."
    )
    # An object of names and values like the tags of a point, so that both are filtered in the same way.
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
                violation_error_message="Latitude (-90 to 90) and longitude (-180 to 180) must be set together.",
            )
        ]

    def __str__(self) -> str:
        return self.name or self.device_id

    def clean(self) -> None:
        super().clean()
        validate_new_names(self, device_id=id_error, name=name_error)

    @property
    def version(self) -> str:
        """Return a version that changes with every edit of the device and of its groups."""
        groups = sorted(group.pk for group in self.groups.all())
        return f"{self.updated_at.timestamp():.6f}-{zlib.crc32(repr(groups).encode()):08x}"


class Series(models.Model):
    """One metric of one device with one kind of value; its points are stored in order of time."""

    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="series")
    metric_name = models.CharField(max_length=NAME_LENGTH)
    kind = models.PositiveSmallIntegerField(help_text="metrics.storage.format.codec.Kind")
    has_other_kinds = models.BooleanField(
        db_default=False, help_text="The device has sent the metric with other kinds of value too."
    )

    class Meta:
        constraints = [models.UniqueConstraint(fields=["device", "metric_name", "kind"], name="one_series_per_kind")]
        indexes = [
            models.Index(fields=["metric_name"]),
            models.Index(fields=["id"], name="series_other_kinds", condition=models.Q(has_other_kinds=True)),
        ]

    def __str__(self) -> str:
        return f"{self.device_id}/{self.metric_name}"


class Lane(models.Model):
    """The range of ids for the next series of a metric: from `next` to before `end`; then a new range is allocated."""

    metric_name = models.CharField(primary_key=True, max_length=NAME_LENGTH)
    next = models.BigIntegerField()
    end = models.BigIntegerField(db_index=True)
    size = models.PositiveSmallIntegerField()
