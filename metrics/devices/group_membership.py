"""Add devices to groups and remove them, thousands at once."""

from collections.abc import Iterable
from typing import Any

from django.db import transaction

from metrics.audit.record import record
from metrics.models import Device, DeviceGroup, Revision

INSERT_BATCH = 10_000  # rows


def add_devices(group: DeviceGroup, devices: Iterable[int]) -> int:
    """Add devices, by primary key, to a group; return how many were not in it before."""
    membership = Device.groups.through
    rows = (membership(device_id=device, devicegroup_id=group.pk) for device in devices)
    with transaction.atomic():
        before = membership.objects.filter(devicegroup_id=group.pk).count()
        membership.objects.bulk_create(rows, batch_size=INSERT_BATCH, ignore_conflicts=True)
        added = membership.objects.filter(devicegroup_id=group.pk).count() - before
        if added:
            record("changed", group, after={"devices": {"count": added}})
        Revision.move()
    return added


def remove_devices(group: DeviceGroup, devices: Iterable[int]) -> int:
    """Remove devices, by primary key, from a group; return how many were in it."""
    with transaction.atomic():
        removed, _ = Device.groups.through.objects.filter(devicegroup_id=group.pk, device_id__in=list(devices)).delete()
        if removed:
            record("changed", group, before={"devices": {"count": removed}})
        Revision.move()
    return removed


def in_groups_sql(device: str, groups: str) -> str:
    """Return the SQL condition that a device (expression of its primary key) is in a group of a text array of names."""
    return (
        "EXISTS (SELECT FROM metrics_device_groups m JOIN metrics_devicegroup g ON g.id = m.devicegroup_id"
        f" WHERE m.device_id = {device} AND g.name = ANY({groups}))"
    )


def invalidate_caches(action: str, **kwargs: Any) -> None:
    """Receive `m2m_changed` of changes by a form or `device.groups.set`, and move the revision."""
    if action.startswith("post_"):
        Revision.move()
