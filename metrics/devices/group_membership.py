"""Add devices to groups and remove them, thousands at once."""

from collections.abc import Iterable
from itertools import islice
from typing import Any

from django.db import transaction

from metrics.audit.record import record
from metrics.events.definitions import DeviceUpdated
from metrics.events.outbox import record_events
from metrics.models import Device, DeviceGroup, Revision

INSERT_BATCH = 10_000  # rows


def add_devices(group: DeviceGroup, devices: Iterable[int]) -> int:
    """Add devices, by primary key, to a group; return how many were not in it before."""
    membership, added, remaining = Device.groups.through, 0, iter(devices)
    with transaction.atomic():
        while batch := list(islice(remaining, INSERT_BATCH)):
            present = membership.objects.filter(devicegroup_id=group.pk, device_id__in=batch)
            new = set(batch).difference(present.values_list("device_id", flat=True))
            membership.objects.bulk_create(
                [membership(device_id=device, devicegroup_id=group.pk) for device in sorted(new)], ignore_conflicts=True
            )
            record_group_changes(sorted(new))
            added += len(new)
        if added:
            record("changed", group, after={"devices": {"count": added}})
        Revision.move()
    return added


def remove_devices(group: DeviceGroup, devices: Iterable[int]) -> int:
    """Remove devices, by primary key, from a group; return how many were in it."""
    with transaction.atomic():
        membership = Device.groups.through.objects.filter(devicegroup_id=group.pk, device_id__in=list(devices))
        members = list(membership.select_for_update().order_by("device_id").values_list("device_id", flat=True))
        removed, _ = membership.delete()
        if removed:
            record_group_changes(members)
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


def receive_group_change(action: str, instance: Any, reverse: bool, **kwargs: Any) -> None:
    """Receive `m2m_changed` of the groups of devices, and record the events."""
    if action in ("post_add", "post_remove") and kwargs["pk_set"]:
        record_group_changes(kwargs["pk_set"] if reverse else [instance.pk])
    elif action == "pre_clear":
        devices = instance.devices.values_list("pk", flat=True) if reverse else [instance.pk]
        record_group_changes(devices)


def record_group_changes(devices: Iterable[int]) -> None:
    """Record that the groups of devices, by primary key, were changed."""
    remaining = iter(devices)
    while batch := list(islice(remaining, INSERT_BATCH)):
        rows = Device.objects.filter(pk__in=batch).order_by("pk").values_list("device_id", "name")
        record_events(DeviceUpdated(device_id=device_id, name=name, changed=["groups"]) for device_id, name in rows)
