"""The list of devices, out as a file and in again: what is in a row is made so, device by device.

Without faults, or where only the good rows are wanted, everything is changed in one transaction, and nothing where
one row fails. Read again, the same file changes nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

from django.db import transaction
from django.utils import timezone

from metrics.audit.record import record
from metrics.devices.csv_cells import HEAD, row
from metrics.devices.csv_table import Table
from metrics.models import Device, DeviceGroup, Revision
from rest.caller import Caller
from rest.errors import TelemetryError

AT_ONCE = 2_000  # devices that are looked at together
MOST_CHANGES = 100  # that are told of
Membership = Device.groups.through
_PLAIN = ("name", "device_type", "expected_interval", "latitude", "longitude", "location", "tags")


class Refused(TelemetryError):
    """Rows that cannot be taken; nothing was changed."""

    status = 422

    def __init__(self, table: Table) -> None:
        super().__init__(
            f"{table.failed:,} of {table.failed + len(table.rows):,} rows cannot be taken: nothing is changed"
        )
        self.errors = [asdict(fault) for fault in table.faults]


@dataclass(slots=True)
class Outcome:
    """What was done, or would be."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    failed: int = 0
    dry_run: bool = False
    changes: list[dict[str, Any]] = field(default_factory=list)  # the first of them
    errors: list[dict[str, Any]] = field(default_factory=list)

    def note(self, line: int, device_id: str, fields: list[str], is_new: bool) -> None:
        self.created, self.updated = self.created + is_new, self.updated + (not is_new)
        if len(self.changes) < MOST_CHANGES:
            action = "create" if is_new else "update"
            self.changes.append({"line": line, "device_id": device_id, "action": action, "fields": fields})


def exported(caller: Caller) -> Iterator[bytes]:
    """The devices that a caller sees, by id, a few thousand rows at a time."""
    yield HEAD
    visible = Device.objects.visible_to(caller).prefetch_related("groups").order_by("device_id")
    last = ""
    while devices := list(visible.filter(device_id__gt=last)[:AT_ONCE]):
        yield b"".join(row(_values(device) | {"groups": _groups_of(device, caller)}) for device in devices)
        last = devices[-1].device_id


def _values(device: Device) -> dict[str, Any]:
    return {"device_id": device.device_id} | {name: getattr(device, name) for name in _PLAIN}


def _groups_of(device: Device, caller: Caller) -> tuple[str, ...]:
    return tuple(sorted(caller.narrowed([group.name for group in device.groups.all()]) or ()))


def take(table: Table, caller: Caller, partial: bool = False, dry_run: bool = False) -> Outcome:
    """Make the devices as the table says. `partial`: those rows that are good. Raises Refused."""
    groups = dict(DeviceGroup.objects.visible_to(caller).values_list("name", "pk"))
    _check_groups(table, groups)
    if table.failed and not partial and not dry_run:
        raise Refused(table)
    outcome = Outcome(failed=table.failed, dry_run=dry_run, errors=[asdict(fault) for fault in table.faults])
    with transaction.atomic():
        rows = iter(table.rows)
        while some := list(islice(rows, AT_ONCE)):
            _take_some(some, caller, groups, outcome)
        if not dry_run and outcome.created + outcome.updated:
            counts = {"created": outcome.created, "updated": outcome.updated}
            record("imported", ("device", "a list of devices"), after=counts)
    return outcome


def _check_groups(table: Table, groups: dict[str, int]) -> None:
    good = []
    for line, values in table.rows:
        unknown = [name for name in values.get("groups", ()) if name not in groups]
        if unknown:
            table.refuse(line, [("groups", f"{unknown[0]!r:.80} is not known: make the group first")])
        else:
            good.append((line, values))
    table.rows = good


def _take_some(
    rows: Sequence[tuple[int, dict[str, Any]]], caller: Caller, groups: dict[str, int], outcome: Outcome
) -> None:
    known = {
        device.device_id: device
        for device in Device.objects.select_for_update()
        .filter(device_id__in=[values["device_id"] for _, values in rows])
        .prefetch_related("groups")
    }
    changed: list[Device] = []
    members: list[tuple[Device, tuple[str, ...], tuple[str, ...]]] = []  # device, its groups before and after
    for line, values in rows:
        device = known.get(values["device_id"])
        is_new = device is None
        device = device or Device(device_id=values["device_id"])
        before = () if is_new else _groups_of(device, caller)
        after = values.get("groups", before)
        fields = [name for name in _PLAIN if name in values and values[name] != getattr(device, name)]
        for name in fields:
            setattr(device, name, values[name])
        if fields or is_new:
            changed.append(device)
        if after != before:
            members.append((device, before, after))
            fields.append("groups")
        if fields or is_new:
            outcome.note(line, device.device_id, fields, is_new)
        else:
            outcome.unchanged += 1
    if not outcome.dry_run:
        _store(changed, members, groups)


def _store(
    changed: list[Device], members: list[tuple[Device, tuple[str, ...], tuple[str, ...]]], groups: dict[str, int]
) -> None:
    """In one statement for each table, also where a device sent for the first time meanwhile."""
    for device in changed:
        device.updated_at = timezone.now()
    Device.objects.bulk_create(
        changed, update_conflicts=True, unique_fields=["device_id"], update_fields=[*_PLAIN, "updated_at"]
    )
    for name, group in groups.items():
        gone = [device.pk for device, before, after in members if name in before and name not in after]
        made = [device.pk for device, before, after in members if name in after and name not in before]
        if gone:
            Membership.objects.filter(devicegroup_id=group, device_id__in=gone).delete()
        if made:
            rows = [Membership(devicegroup_id=group, device_id=device) for device in made]
            Membership.objects.bulk_create(rows, ignore_conflicts=True)
    if members:
        Revision.move()
