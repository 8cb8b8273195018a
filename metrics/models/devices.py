"""Devices, the groups that they are in, and their series."""

from django.conf import settings
from django.db import models
from django.utils import timezone

from metrics.access import Caller
from metrics.models.audit import Audited
from metrics.models.names import NAME_LENGTH
from metrics.models.revision import Announced


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
        membership = Device.groups.through.objects.filter(devicegroup__name__in=caller.groups)
        return self.filter(pk__in=membership.values("device_id"))


class Device(Audited):
    """Something that sends measurements, known by the `device_id` that it calls itself."""

    device_id = models.CharField(max_length=NAME_LENGTH, unique=True)
    name = models.CharField(max_length=NAME_LENGTH, blank=True, help_text="What people call it; its id where empty.")
    expected_interval = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="Seconds between measurements; a device that is later than three of them is late.",
    )
    groups = models.ManyToManyField(DeviceGroup, blank=True, related_name="devices")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = DeviceQuerySet.as_manager()
    audit_name = "device_id"

    class Meta:
        ordering = ["device_id"]

    def __str__(self) -> str:
        return self.name or self.device_id


class Series(models.Model):
    """One metric of one device in one kind of value: the thing whose points are stored in order of time."""

    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="series")
    metric_name = models.CharField(max_length=NAME_LENGTH)
    kind = models.PositiveSmallIntegerField(help_text="metrics.storage.codec.Kind")

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
