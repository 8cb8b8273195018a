"""Which devices are in which group: moved by the thousand, and known to every process within a second."""

from collections.abc import Iterable
from typing import Any

from django.db import transaction

from metrics.audit.record import record
from metrics.models import Device, DeviceGroup, Revision

ROWS_AT_ONCE = 10_000  # of one INSERT


def add(group: DeviceGroup, devices: Iterable[int]) -> int:
    """Put devices, by primary key, into a group; returns how many were not in it before."""
    membership = Device.groups.through
    rows = (membership(device_id=device, devicegroup_id=group.pk) for device in devices)
    with transaction.atomic():
        before = membership.objects.filter(devicegroup_id=group.pk).count()
        membership.objects.bulk_create(rows, batch_size=ROWS_AT_ONCE, ignore_conflicts=True)
        made = membership.objects.filter(devicegroup_id=group.pk).count() - before
        if made:
            record("changed", group, after={"devices": {"count": made}})
        Revision.move()
    return made


def remove(group: DeviceGroup, devices: Iterable[int]) -> int:
    """Take devices, by primary key, out of a group; returns how many were in it."""
    with transaction.atomic():
        gone, _ = Device.groups.through.objects.filter(devicegroup_id=group.pk, device_id__in=list(devices)).delete()
        if gone:
            record("changed", group, before={"devices": {"count": gone}})
        Revision.move()
    return gone


def announce(action: str, **kwargs: Any) -> None:
    """Receiver of `m2m_changed`: for changes by a form or by `device.groups.set`."""
    if action.startswith("post_"):
        Revision.move()
