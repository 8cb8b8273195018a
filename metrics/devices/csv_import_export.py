"""Export and import the device list as CSV.

An import creates and updates devices in one transaction. A row with an error prevents all changes, unless only the
valid rows are requested. Importing the same file again changes nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

from django.db import transaction
from django.utils import timezone

from metrics.audit.record import record
from metrics.devices.csv_cells import COLUMNS, encode_header, encode_row
from metrics.devices.csv_table import DeviceTable
from metrics.events.event import EventData
from metrics.events.model_changes import device_event
from metrics.events.outbox import record_events
from metrics.models import Device, DeviceGroup, Revision
from rest.caller import Caller
from rest.csv_text import STANDARD, CsvDialect
from rest.errors import TelemetryError
from rest.names import id_error, name_error

DEVICE_BATCH = 2_000
MAX_REPORTED_CHANGES = 100
Membership = Device.groups.through
_FIELDS = tuple(name for name in COLUMNS if name not in ("device_id", "groups"))
_NAME_CHECKS = {"device_id": id_error, "name": name_error}


class ImportRejected(TelemetryError):
    """Some rows are invalid; nothing was changed."""

    status = 422

    def __init__(self, table: DeviceTable) -> None:
        super().__init__(
            f"{table.failed:,} of {table.failed + len(table.rows):,} rows are invalid: nothing was changed"
        )
        self.errors = [asdict(error) for error in table.errors]


@dataclass(slots=True)
class ImportResult:
    """Counts, changes and errors of an import; with `dry_run` of the changes that it would make."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    failed: int = 0
    dry_run: bool = False
    changes: list[dict[str, Any]] = field(default_factory=list)  # the first MAX_REPORTED_CHANGES
    errors: list[dict[str, Any]] = field(default_factory=list)

    def add_change(self, line: int, device_id: str, fields: list[str], is_new: bool) -> None:
        self.created, self.updated = self.created + is_new, self.updated + (not is_new)
        if len(self.changes) < MAX_REPORTED_CHANGES:
            action = "create" if is_new else "update"
            self.changes.append({"line": line, "device_id": device_id, "action": action, "fields": fields})


def export_devices(caller: Caller, dialect: CsvDialect = STANDARD) -> Iterator[bytes]:
    """Yield the devices that are visible to a caller, by id, a few thousand rows at a time."""
    yield encode_header(dialect)
    visible = Device.objects.visible_to(caller).prefetch_related("groups").order_by("device_id")
    last = ""
    while devices := list(visible.filter(device_id__gt=last)[:DEVICE_BATCH]):
        rows = (_values(device) | {"groups": _groups_of(device, caller)} for device in devices)
        yield b"".join(encode_row(row, dialect) for row in rows)
        last = devices[-1].device_id


def _values(device: Device) -> dict[str, Any]:
    return {"device_id": device.device_id} | {name: getattr(device, name) for name in _FIELDS}


def _groups_of(device: Device, caller: Caller) -> tuple[str, ...]:
    return tuple(sorted(caller.narrowed([group.name for group in device.groups.all()]) or ()))


def import_devices(table: DeviceTable, caller: Caller, partial: bool = False, dry_run: bool = False) -> ImportResult:
    """Create and update the devices of a table; with `partial` those of the valid rows. Raises ImportRejected."""
    _check_new_names(table)
    groups = dict(DeviceGroup.objects.visible_to(caller).values_list("name", "pk"))
    _check_groups(table, groups)
    table.errors.sort(key=lambda error: error.line)
    if table.failed and not partial and not dry_run:
        raise ImportRejected(table)
    result = ImportResult(failed=table.failed, dry_run=dry_run, errors=[asdict(error) for error in table.errors])
    with transaction.atomic():
        rows = iter(table.rows)
        while batch := list(islice(rows, DEVICE_BATCH)):
            _import_batch(batch, caller, groups, result)
        if not dry_run and result.created + result.updated:
            counts = {"created": result.created, "updated": result.updated}
            record("imported", ("device", "a list of devices"), after=counts)
    return result


def _check_new_names(table: DeviceTable) -> None:
    """Reject lines with a device ID or name that is not accepted, unless the device has it already."""
    suspects = [
        (line, values)
        for line, values in table.rows
        if id_error(values["device_id"]) or name_error(values.get("name", ""))
    ]
    devices = Device.objects.filter(device_id__in=[values["device_id"] for _, values in suspects])
    stored = {row["device_id"]: row for row in devices.values(*_NAME_CHECKS)} if suspects else {}
    rejected = set()
    for line, values in suspects:
        before = stored.get(values["device_id"], {})
        changed = {field: values[field] for field in _NAME_CHECKS if values.get(field, "") != before.get(field, "")}
        if errors := [(field, error) for field, name in changed.items() if (error := _NAME_CHECKS[field](name))]:
            table.reject(line, errors)
            rejected.add(line)
    table.rows = [row for row in table.rows if row[0] not in rejected]


def _check_groups(table: DeviceTable, groups: dict[str, int]) -> None:
    """Reject lines with unknown groups. Blanks around a name are ignored, unless a group has such a name."""
    valid = []
    for line, values in table.rows:
        names = [name if name in groups else name.strip() for name in values.get("groups", ())]
        unknown = [name for name in names if name not in groups]
        if unknown:
            table.reject(line, [("groups", f"{unknown[0]!r:.80} does not exist: create the group first")])
            continue
        valid.append((line, values | {"groups": tuple(sorted(set(names)))} if "groups" in values else values))
    table.rows = valid


def _import_batch(
    rows: Sequence[tuple[int, dict[str, Any]]], caller: Caller, groups: dict[str, int], result: ImportResult
) -> None:
    existing = {
        device.device_id: device
        for device in Device.objects.select_for_update()
        .filter(device_id__in=[values["device_id"] for _, values in rows])
        .prefetch_related("groups")
    }
    changed: list[Device] = []
    events: list[EventData] = []
    memberships: list[tuple[Device, tuple[str, ...], tuple[str, ...]]] = []  # device, its groups before and after
    for line, values in rows:
        device = existing.get(values["device_id"])
        is_new = device is None
        device = device or Device(device_id=values["device_id"])
        before = () if is_new else _groups_of(device, caller)
        after = values.get("groups", before)
        fields = [name for name in _FIELDS if name in values and values[name] != getattr(device, name)]
        for name in fields:
            setattr(device, name, values[name])
        if fields or is_new:
            changed.append(device)
        if after != before:
            memberships.append((device, before, after))
            fields.append("groups")
        if fields or is_new:
            result.add_change(line, device.device_id, fields, is_new)
            events.append(device_event("created" if is_new else "changed", device, sorted(fields)))
        else:
            result.unchanged += 1
    if not result.dry_run:
        _store(changed, memberships, groups)
        record_events(events)


def _store(
    changed: list[Device], memberships: list[tuple[Device, tuple[str, ...], tuple[str, ...]]], groups: dict[str, int]
) -> None:
    """Write each table in one statement; also if a device was created by its first points meanwhile."""
    for device in changed:
        device.updated_at = timezone.now()
    Device.objects.bulk_create(
        changed, update_conflicts=True, unique_fields=["device_id"], update_fields=[*_FIELDS, "updated_at"]
    )
    for name, group in groups.items():
        removed = [device.pk for device, before, after in memberships if name in before and name not in after]
        added = [device.pk for device, before, after in memberships if name in after and name not in before]
        if removed:
            Membership.objects.filter(devicegroup_id=group, device_id__in=removed).delete()
        if added:
            rows = [Membership(devicegroup_id=group, device_id=device) for device in added]
            Membership.objects.bulk_create(rows, ignore_conflicts=True)
    if memberships:
        Revision.move()
