"""The path of every point into storage: check permissions, validate against the metric definitions, store."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from django.conf import settings
from numpy.typing import NDArray

from ingest.batch_ids import BatchIdReused, find_answer
from ingest.rejected.inbox import rejected_inbox
from ingest.value_types import encode_value
from ingest.wire.batch import Batch, Group, Rejection, RejectionCause, RejectionReason, RequestRejected
from ingest.wire.point_bounds import find_outside_limits, find_violation
from ingest.wire.validate import InvalidPoint, check_name
from metrics.storage.errors import DeviceDeleted
from metrics.storage.format.codec import Kind
from metrics.storage.series_registry import (
    DEFAULT_DEFINITION,
    SeriesRegistry,
    cached_registry,
    current_registry,
    refresh_registry,
)
from metrics.storage.write.group_commit import AnsweredBatch, JournalEntry, writer
from metrics.storage.write.incoming import IncomingPoints
from rest.caller import Caller
from rest.names import id_error
from rest.request_stats import request_counters

MIN_LAYOUT_POINTS = 64  # points of a batch from which caching its layout is faster
NOT_ALLOWED: RejectionCause = (
    RejectionReason.NOT_ALLOWED,
    "device_id",
    "this key may not write to this device",
)


@dataclass(slots=True)
class Receipt:
    """The result of a batch: the number of stored points and the rejections.

    groups       points of the batch by device, without those that could not be decoded
    metric_name  metric of the first point
    undecoded    number of rejections, at the start of `rejected`, whose points are in no group
    answer       the first response to this `batch_id`, if the batch was stored before
    """

    accepted: int
    rejected: list[Rejection]
    groups: Sequence[Group]
    metric_name: str
    undecoded: int = 0
    answer: dict[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the PRD's response to a batch."""
        return self.answer or {
            "success": self.accepted > 0,
            "ingested_count": self.accepted,
            "failed_count": len(self.rejected),
            "total_count": self.accepted + len(self.rejected),
            "errors": [rejection.as_json() for rejection in self.rejected],
        }


def accept(batch: Batch, sender: Caller, keep_rejected: bool = True) -> Receipt:
    """Validate a batch and store it; return after COMMIT. `keep_rejected`: rejected points go to the rejected inbox.

    Raises RequestRejected if no point is valid, and DeviceDeleted, WriterOverloaded and StorageUnavailable.
    """
    validation = _BatchValidation(current_registry(), batch, sender, keep_rejected)
    if batch.batch_id and (answer := validation.earlier_answer()) is not None:
        return Receipt(0, [], batch.groups, "", answer=answer)
    try:
        return _store(validation)
    except DeviceDeleted:
        if not sender.sees_all:  # it may have lost the access to the device
            raise
        return _store(_BatchValidation(refresh_registry(), batch, sender, keep_rejected))


def _store(validation: "_BatchValidation") -> Receipt:
    if missing := validation.missing_series():
        validation.create_series(missing)
    receipt, incoming = validation.finish()
    entry = _journal_entry(validation.batch, validation.sender, receipt)
    writer().submit(incoming, *entry, validation.registry.revision)
    validation.record_rejections()
    return receipt


async def accept_async(batch: Batch, sender: Caller) -> Receipt:
    """Do the same on the event loop. Queries, which are rare, run in a thread."""
    validation = _BatchValidation(cached_registry(), batch, sender)
    if batch.batch_id and (answer := await asyncio.to_thread(validation.earlier_answer)) is not None:
        return Receipt(0, [], batch.groups, "", answer=answer)
    if missing := validation.missing_series():
        await asyncio.to_thread(validation.create_series, missing)
    receipt, incoming = validation.finish()
    await writer().submit_async(incoming, *_journal_entry(batch, sender, receipt), validation.registry.revision)
    validation.record_rejections()
    return receipt


_NO_ROWS = np.empty(0, np.int64)


@dataclass(slots=True)
class _BatchValidation:
    """The validation of one batch against one revision of the series registry."""

    registry: SeriesRegistry
    batch: Batch
    sender: Caller
    keep_rejected: bool = True
    causes: dict[int, RejectionCause] = field(default_factory=dict)  # of rejected points, by position in the batch
    kinds: list[Kind] | None = None  # None: all values are numeric
    rows: NDArray[np.int64] = field(default_factory=lambda: _NO_ROWS)  # of the series registry
    is_resolved: bool = True  # every point has a row in the registry
    now: int = field(default_factory=lambda: time.time_ns() // 1000)  # µs
    values: Any = None  # float64[n] if all are numeric, else a list of floats and bytes

    def __post_init__(self) -> None:
        self._check_permissions()
        is_numeric = isinstance(self.batch.values, np.ndarray)
        if is_numeric and (
            not self.registry.non_numeric_metrics or self.registry.non_numeric_metrics.isdisjoint(self.batch.metrics)
        ):
            self.values = self.batch.values
        else:
            self._encode_values()

    def _check_permissions(self) -> None:
        allowed = [self.sender.may_write(group.device_id) for group in self.batch.groups]
        if all(allowed):
            return
        if not any(allowed):
            raise RequestRejected(NOT_ALLOWED[2], 403)
        for group, is_allowed in zip(self.batch.groups, allowed, strict=True):
            if not is_allowed:
                self.causes |= dict.fromkeys(range(group.start, group.stop), NOT_ALLOWED)

    def earlier_answer(self) -> dict[str, Any] | None:
        """Return the response to an earlier batch with this id and content, if there was one.

        Points of a batch with other content go to the rejected inbox: its sender may have restarted its counter.
        """
        batch = self.batch
        try:
            return find_answer(batch)
        except BatchIdReused as error:
            if self.keep_rejected:
                cause = (RejectionReason.BATCH_ID_REUSED, "batch_id", error.rejections[0].detail)
                rejected_inbox().add_batch(self.sender.name, batch, dict.fromkeys(range(len(batch)), cause))
            raise

    def _encode_values(self) -> None:
        values = self.batch.values.tolist() if isinstance(self.batch.values, np.ndarray) else self.batch.values
        self.kinds, self.values = [], []
        for position, (metric, value) in enumerate(zip(self.batch.metrics, values, strict=True)):
            definition = self.registry.definitions.get(metric)
            try:
                kind, value = encode_value(value, definition.kind if definition else None, metric)
            except InvalidPoint as error:
                self.causes.setdefault(position, (RejectionReason.WRONG_TYPE, error.field, error.detail))
                kind, value = Kind.NUMERIC, 0.0
            self.kinds.append(kind)
            self.values.append(value)

    def _resolve_rows(self) -> None:
        batch = self.batch
        if self.kinds is None:
            cached = (
                self.registry.cached_layout(batch.groups, batch.metrics) if len(batch) >= MIN_LAYOUT_POINTS else None
            )
            if cached is not None:
                self.rows = cached
                return
            groups = ((group.device_id, batch.metrics[group.start : group.stop]) for group in batch.groups)
            self._set_rows(self.registry.find_rows(groups))
            if self.is_resolved and len(batch) >= MIN_LAYOUT_POINTS:
                self.registry.cache_layout(batch.groups, batch.metrics, self.rows)
            return
        rows = []
        for group in batch.groups:
            for position in range(group.start, group.stop):
                series = [(group.device_id, batch.metrics[position : position + 1])]
                rows += self.registry.find_rows(series, self.kinds[position])
        self._set_rows(rows)

    def _set_rows(self, rows: list[int]) -> None:
        self.is_resolved = -1 not in rows
        self.rows = np.array(rows, np.int64)

    def missing_series(self) -> set[tuple[str, str, Kind]]:
        """Return (device, metric, kind) of the series to create, and reject points with invalid names."""
        self._resolve_rows()
        if self.is_resolved:
            return set()
        missing: set[tuple[str, str, Kind]] = set()
        for position, device_id in self._unresolved():
            metric = self.batch.metrics[position]
            try:
                check_name(device_id, "device_id")
                check_name(metric, "metric_name")
            except InvalidPoint as error:
                self.causes[position] = (RejectionReason.UNREADABLE, error.field, error.detail)
                continue
            definition = self.registry.definitions.get(metric, DEFAULT_DEFINITION)
            # No series is created for a point that is rejected anyway.
            if cause := self._violation(position, definition.low, definition.high, definition.retention):
                self.causes[position] = cause
            else:
                missing.add((device_id, metric, self.kinds[position] if self.kinds else Kind.NUMERIC))
        return missing

    def create_series(self, missing: set[tuple[str, str, Kind]]) -> None:
        """Create the missing series and resolve all series again; reject points whose new names are not accepted."""
        errors = self._new_name_errors(missing)
        for position, device_id in self._unresolved() if errors else ():
            for field_name, name in (("device_id", device_id), ("metric_name", self.batch.metrics[position])):
                if error := errors.get((field_name, name)):
                    self.causes.setdefault(position, (RejectionReason.UNREADABLE, field_name, error))
        self.registry.create_missing(
            (device_id, metric, kind)
            for device_id, metric, kind in missing
            if ("device_id", device_id) not in errors and ("metric_name", metric) not in errors
        )
        self._resolve_rows()

    def _new_name_errors(self, missing: set[tuple[str, str, Kind]]) -> dict[tuple[str, str], str]:
        """Return (field, name) → error of the names of devices and metrics that neither exist nor are accepted."""
        errors = {
            (field_name, name): error
            for device_id, metric, _ in missing
            for field_name, name in (("device_id", device_id), ("metric_name", metric))
            if (error := id_error(name))
        }
        if errors:
            existing = self.registry.existing_names([name for _, name in errors])
            errors = {key: error for key, error in errors.items() if key not in existing}
        return errors

    def _unresolved(self) -> Iterator[tuple[int, str]]:
        for group in self.batch.groups:
            for position in (np.flatnonzero(self.rows[group.start : group.stop] < 0) + group.start).tolist():
                if position not in self.causes:
                    yield position, group.device_id

    def finish(self) -> tuple[Receipt, list[IncomingPoints]]:
        """Return the receipt and the points to store. Raises RequestRejected if no point is valid."""
        self._check_points()
        batch = self.batch
        rejected = batch.rejected + self._rejections()
        accepted = len(batch) - len(self.causes)
        if accepted == 0:
            self.record_rejections()
            first = rejected[0]
            raise RequestRejected(f"no valid point: {first.field}: {first.detail}", 422, rejected)
        receipt = Receipt(accepted, rejected, batch.groups, batch.metrics[0], len(batch.rejected))
        return receipt, list(self._incoming(self.registry.series[self.rows]))

    def record_rejections(self) -> None:
        """Count the rejected points and keep them, once the valid ones are stored: until then all may be sent again."""
        if rejected := len(self.batch.rejected) + len(self.causes):
            request_counters.rejected(rejected)
            if self.keep_rejected:
                rejected_inbox().add_batch(self.sender.name, self.batch, self.causes)

    def _check_points(self) -> None:
        """Reject points without a series or outside their limits; a valid batch costs a few comparisons."""
        registry, rows = self.registry, self.rows
        if not self.is_resolved:
            for position, _ in self._unresolved():
                detail = self._why_unresolved(position)
                self.causes[position] = (RejectionReason.UNDEFINED, "metric_name", detail)
        values = self.values
        if self.kinds and registry.has_bounds:
            values = np.array([value if isinstance(value, float) else np.nan for value in values])
        for position in find_outside_limits(values, self.batch.times, rows, self.now, registry):
            if position not in self.causes:
                row = rows[position]
                limits = (registry.low[row], registry.high[row], int(registry.retention[row]))
                if cause := self._violation(position, *limits):
                    self.causes[position] = cause

    def _violation(self, position: int, low: float, high: float, retention: int) -> RejectionCause | None:
        metric, time = self.batch.metrics[position], int(self.batch.times[position])
        return find_violation(metric, self.values[position], time, self.now, low, high, retention)

    def _why_unresolved(self, position: int) -> str:
        metric = self.batch.metrics[position]
        if not settings.CREATE_ON_FIRST_SIGHT and metric not in self.registry.definitions:
            return f"{metric} is not defined, and this site does not create metrics automatically"
        return "the device does not exist, and this site does not create devices automatically"

    def _rejections(self) -> list[Rejection]:
        name_devices = len(self.batch.groups) > 1 or any(
            rejection.device_id is not None for rejection in self.batch.rejected
        )
        rejections = []
        for group in self.batch.groups if self.causes else ():
            device_id = group.device_id if name_devices else None
            for position in range(group.start, group.stop):
                if position in self.causes:
                    indices = self.batch.indices
                    index = position - group.start if indices is None else int(indices[position])
                    reason, field, detail = self.causes[position]
                    rejections.append(Rejection(index, field, detail, device_id, reason))
        return rejections

    def _incoming(self, series: NDArray[np.int64]) -> Iterator[IncomingPoints]:
        batch = self.batch
        if self.kinds is None and not self.causes:
            yield IncomingPoints(series, batch.times, self.values, batch.contexts, batch.dictionary)
            return
        valid = np.ones(len(batch), bool)
        valid[list(self.causes)] = False
        numbers = np.array([kind.is_number for kind in self.kinds]) if self.kinds else np.ones(len(batch), bool)
        for positions in self._split_by_encoding(valid, numbers):
            if len(positions):
                values = np.empty(len(positions), np.float64 if numbers[positions[0]] else object)
                values[:] = [self.values[position] for position in positions.tolist()]
                contexts = None if batch.contexts is None else batch.contexts[positions]
                yield IncomingPoints(series[positions], batch.times[positions], values, contexts, batch.dictionary)

    def _split_by_encoding(self, valid: NDArray[np.bool_], numbers: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
        """Return the positions of numbers and of other values; in runs, if a metric has both: the last value wins."""
        parts = [np.flatnonzero(valid & numbers), np.flatnonzero(valid & ~numbers)]
        metrics = [{self.batch.metrics[position] for position in part.tolist()} for part in parts]
        if metrics[0].isdisjoint(metrics[1]):
            return parts
        positions = np.flatnonzero(valid)
        return np.split(positions, np.flatnonzero(np.diff(numbers[positions])) + 1)


def _journal_entry(batch: Batch, sender: Caller, receipt: Receipt) -> tuple[JournalEntry, AnsweredBatch | None]:
    """Return the line of the journal, and the response to store for a repeated `batch_id`."""
    device_id = batch.groups[0].device_id if len(batch.groups) == 1 else None
    entry = JournalEntry(sender.name, time.time(), receipt.accepted, len(receipt.rejected), device_id, batch.batch_id)
    answered = None
    if batch.batch_id and device_id is not None:
        answered = AnsweredBatch(device_id, batch.batch_id, batch.digest().hex(), receipt.as_json())
    return entry, answered
