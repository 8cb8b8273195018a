"""The only door for measurements: who may write what, is every point as its definition says, then store."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from django.conf import settings
from numpy.typing import NDArray

from ingest.rejected.inbox import inbox
from ingest.value_types import stored
from ingest.wire.batch import Batch, Group, Reason, Rejection, RequestRejected, Verdict
from ingest.wire.validate import BadPoint, check_name
from metrics.storage.connection import read_connection
from metrics.storage.format.codec import Kind
from metrics.storage.series_registry import (
    DEFAULT_DEFINITION,
    SeriesRegistry,
    cached_registry,
    current_registry,
    refresh_registry,
)
from metrics.storage.units import DAY
from metrics.storage.write.writer import AnsweredBatch, IncomingPoints, JournalEntry, writer
from rest.caller import Caller
from rest.request_stats import tally

AHEAD = 5 * 60 * 1_000_000  # µs that a clock may be fast
LAYOUT_FROM = 64  # points from which remembering the look of a batch pays
TOO_EARLY: Verdict = (Reason.TOO_EARLY, "timestamp", "more than 5 minutes ahead of this server's clock")
NOT_ALLOWED: Verdict = (Reason.NOT_ALLOWED, "device_id", "this key may not write to this device")


@dataclass(slots=True)
class Receipt:
    """What became of a batch: how many points are stored, and a verdict for each that is not.

    groups       the batch's points by device; what could not be read is in none of them
    metric_name  of the first point
    unreadable   how many of the rejected, the first of them, are in no group
    answer       where the same `batch_id` was answered before: what was said then
    """

    accepted: int
    rejected: list[Rejection]
    groups: Sequence[Group]
    metric_name: str
    unreadable: int = 0
    answer: dict[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """The PRD's answer to a batch."""
        return self.answer or {
            "success": self.accepted > 0,
            "ingested_count": self.accepted,
            "failed_count": len(self.rejected),
            "total_count": self.accepted + len(self.rejected),
            "errors": [rejection.as_json() for rejection in self.rejected],
        }


def accept(batch: Batch, sender: Caller, note: bool = True) -> Receipt:
    """Validate and store; returns after COMMIT. `note`: what is rejected goes into the rejected inbox.

    Raises RequestRejected where not one point is good, DeviceDeleted, Overloaded and StorageUnavailable.
    """
    work = _Work(current_registry(), batch, sender, note)
    if batch.batch_id and (answer := _answered(batch)) is not None:
        return Receipt(0, [], batch.groups, "", answer=answer)
    if missing := work.missing():
        work.make(missing)
    receipt, arrivals = work.finish()
    writer().submit(arrivals, *_records(batch, sender, receipt), work.known.revision)
    return receipt


async def accept_async(batch: Batch, sender: Caller) -> Receipt:
    """The same on the event loop; the queries it needs, rare as they are, run on a thread."""
    known = cached_registry()
    if known.revision < 0:  # this process has just begun and knows no definitions yet
        known = await asyncio.to_thread(refresh_registry)
    work = _Work(known, batch, sender)
    if batch.batch_id and (answer := await asyncio.to_thread(_answered, batch)) is not None:
        return Receipt(0, [], batch.groups, "", answer=answer)
    if missing := work.missing():
        await asyncio.to_thread(work.make, missing)
    receipt, arrivals = work.finish()
    await writer().submit_async(arrivals, *_records(batch, sender, receipt), work.known.revision)
    return receipt


_NO_SLOTS = np.empty(0, np.int64)


@dataclass(slots=True)
class _Work:
    """The judgement of one batch against one state of the catalogue."""

    known: SeriesRegistry
    batch: Batch
    sender: Caller
    note: bool = True
    verdicts: dict[int, Verdict] = field(default_factory=dict)  # by position in the batch
    kinds: list[Kind] | None = None  # None: all numeric
    slots: NDArray[np.int64] = field(default_factory=lambda: _NO_SLOTS)
    whole: bool = True  # every point has a slot
    now: int = field(default_factory=lambda: time.time_ns() // 1000)  # µs
    values: Any = None  # float64[n] where all are numeric, else a list of floats and bytes

    def __post_init__(self) -> None:
        self._check_sender()
        plain = isinstance(self.batch.values, np.ndarray)
        if plain and (not self.known.not_numeric or self.known.not_numeric.isdisjoint(self.batch.metrics)):
            self.values = self.batch.values
        else:
            self._look_at_values()

    def _check_sender(self) -> None:
        allowed = [self.sender.may_write(group.device_id) for group in self.batch.groups]
        if all(allowed):
            return
        if not any(allowed):
            raise RequestRejected(NOT_ALLOWED[2], 403)
        for group, may in zip(self.batch.groups, allowed, strict=True):
            if not may:
                self.verdicts |= dict.fromkeys(range(group.start, group.stop), NOT_ALLOWED)

    def _look_at_values(self) -> None:
        given = self.batch.values.tolist() if isinstance(self.batch.values, np.ndarray) else self.batch.values
        self.kinds, self.values = [], []
        for position, (metric, value) in enumerate(zip(self.batch.metrics, given, strict=True)):
            definition = self.known.definitions.get(metric)
            try:
                kind, value = stored(value, definition.kind if definition else None, metric)
            except BadPoint as bad:
                self.verdicts.setdefault(position, (Reason.WRONG_TYPE, bad.field, bad.detail))
                kind, value = Kind.NUMERIC, 0.0
            self.kinds.append(kind)
            self.values.append(value)

    def _find_slots(self) -> None:
        batch = self.batch
        if self.kinds is None:
            familiar = self.known.layout(batch.groups, batch.metrics) if len(batch) >= LAYOUT_FROM else None
            if familiar is not None:
                self.slots = familiar
                return
            groups = ((group.device_id, batch.metrics[group.start : group.stop]) for group in batch.groups)
            self._place(self.known.slots(groups))
            if self.whole and len(batch) >= LAYOUT_FROM:
                self.known.learn_layout(batch.groups, batch.metrics, self.slots)
            return
        slots = []
        for group in batch.groups:
            for position in range(group.start, group.stop):
                one = [(group.device_id, batch.metrics[position : position + 1])]
                slots += self.known.slots(one, self.kinds[position])
        self._place(slots)

    def _place(self, slots: list[int]) -> None:
        self.whole = -1 not in slots
        self.slots = np.array(slots, np.int64)

    def missing(self) -> set[tuple[str, str, Kind]]:
        """The (device, metric, kind) that have no slot yet and may get one; bad names get their verdict here."""
        self._find_slots()
        if self.whole:
            return set()
        found: set[tuple[str, str, Kind]] = set()
        for position, device_id in self._unplaced():
            metric = self.batch.metrics[position]
            try:
                check_name(device_id, "device_id")
                check_name(metric, "metric_name")
            except BadPoint as bad:
                self.verdicts[position] = (Reason.UNREADABLE, bad.field, bad.detail)
                continue
            if verdict := self._first_sight(position):
                self.verdicts[position] = verdict
            else:
                found.add((device_id, metric, self.kinds[position] if self.kinds else Kind.NUMERIC))
        return found

    def _first_sight(self, position: int) -> Verdict | None:
        """A series is not made for a point that cannot be kept."""
        definition = self.known.definitions.get(self.batch.metrics[position], DEFAULT_DEFINITION)
        value, time = self.values[position], int(self.batch.times[position])
        if isinstance(value, float) and not definition.low <= value <= definition.high:
            return self._out_of_bounds(position)
        if time > self.now + AHEAD:
            return TOO_EARLY
        return self._too_old(position, definition.retention) if time < self.now - definition.retention else None

    def make(self, missing: set[tuple[str, str, Kind]]) -> None:
        """Have the missing series made, and look again."""
        self.known.make(missing)
        self._find_slots()

    def _unplaced(self) -> Iterator[tuple[int, str]]:
        for group in self.batch.groups:
            for position in (np.flatnonzero(self.slots[group.start : group.stop] < 0) + group.start).tolist():
                if position not in self.verdicts:
                    yield position, group.device_id

    def finish(self) -> tuple[Receipt, list[IncomingPoints]]:
        """The receipt, and what to store. Raises RequestRejected where no point is good."""
        self._judge()
        batch = self.batch
        if self.note and (self.verdicts or batch.rejected):
            inbox().note(self.sender.name, batch, self.verdicts)
        rejected = batch.rejected + self._rejections()
        accepted = len(batch) - len(self.verdicts)
        if rejected:
            tally.rejected(len(rejected))
        if accepted == 0:
            first = rejected[0]
            raise RequestRejected(f"no point can be kept: {first.field}: {first.detail}", 422, rejected)
        receipt = Receipt(accepted, rejected, batch.groups, batch.metrics[0], len(batch.rejected))
        return receipt, list(self._arrivals(self.known.series[self.slots]))

    def _judge(self) -> None:
        """Verdicts by columns; a batch in which all is well costs a few comparisons."""
        known, times, slots = self.known, self.batch.times, self.slots
        if not self.whole:
            for position, _ in self._unplaced():
                self.verdicts[position] = (Reason.UNDEFINED, "metric_name", self._why_unplaced(position))
        if known.bounded:
            values = (
                np.array([v if isinstance(v, float) else np.nan for v in self.values]) if self.kinds else self.values
            )
            for position in np.flatnonzero((values < known.low[slots]) | (values > known.high[slots])).tolist():
                self.verdicts.setdefault(position, self._out_of_bounds(position))
        now = self.now
        if len(times) and (
            np.maximum.reduce(times) > now + AHEAD or np.minimum.reduce(times) < now - known.shortest_retention
        ):
            for position in np.flatnonzero(times > now + AHEAD).tolist():
                self.verdicts.setdefault(position, TOO_EARLY)
            for position in np.flatnonzero(times < now - known.retention[slots]).tolist():
                self.verdicts.setdefault(position, self._too_old(position, int(known.retention[slots[position]])))

    def _too_old(self, position: int, retention: int) -> Verdict:
        detail = f"older than the {retention // DAY} days that {self.batch.metrics[position]} is kept"
        return Reason.TOO_OLD, "timestamp", detail

    def _why_unplaced(self, position: int) -> str:
        metric = self.batch.metrics[position]
        if not settings.CREATE_ON_FIRST_SIGHT and metric not in self.known.definitions:
            return f"{metric} is not defined, and metrics are not made on first sight here"
        return "the device is not known, and devices are not made on first sight here"

    def _out_of_bounds(self, position: int) -> Verdict:
        metric = self.batch.metrics[position]
        definition = self.known.definitions[metric]
        value = self.values[position]
        bound = f"below the minimum {definition.low:g}"
        if value > definition.high:
            bound = f"above the maximum {definition.high:g}"
        return Reason.OUT_OF_BOUNDS, "value", f"{value:g} is {bound} of {metric}"

    def _rejections(self) -> list[Rejection]:
        several = len(self.batch.groups) > 1 or any(rejection.device_id for rejection in self.batch.rejected)
        found = []
        for group in self.batch.groups if self.verdicts else ():
            for position in range(group.start, group.stop):
                if position in self.verdicts:
                    indices = self.batch.indices
                    index = position - group.start if indices is None else int(indices[position])
                    reason, field, detail = self.verdicts[position]
                    found.append(Rejection(index, field, detail, group.device_id if several else None, reason))
        return found

    def _arrivals(self, series: NDArray[np.int64]) -> Iterator[IncomingPoints]:
        batch = self.batch
        if self.kinds is None and not self.verdicts:
            yield IncomingPoints(series, batch.times, self.values, batch.contexts, batch.dictionary)
            return
        good = np.ones(len(batch), bool)
        good[list(self.verdicts)] = False
        numbers = np.array([kind.is_number for kind in self.kinds]) if self.kinds else np.ones(len(batch), bool)
        for chosen, dtype in ((good & numbers, np.float64), (good & ~numbers, object)):
            places = np.flatnonzero(chosen)
            if len(places):
                values = np.empty(len(places), dtype)
                values[:] = [self.values[place] for place in places.tolist()]
                contexts = None if batch.contexts is None else batch.contexts[places]
                yield IncomingPoints(series[places], batch.times[places], values, contexts, batch.dictionary)


def _answered(batch: Batch) -> dict[str, Any] | None:
    """What was answered to this batch id of this device, if it was."""
    with read_connection() as connection:
        row = connection.execute(
            "SELECT answer FROM metrics_ingestedbatch WHERE device_id = %s AND batch_id = %s",
            (batch.groups[0].device_id, batch.batch_id),
        ).fetchone()
    return row[0] if row else None


def _records(batch: Batch, sender: Caller, receipt: Receipt) -> tuple[JournalEntry, AnsweredBatch | None]:
    device_id = batch.groups[0].device_id if len(batch.groups) == 1 else None
    entry = JournalEntry(sender.name, time.time(), receipt.accepted, len(receipt.rejected), device_id, batch.batch_id)
    remembered = None
    if batch.batch_id and device_id is not None:
        remembered = AnsweredBatch(device_id, batch.batch_id, receipt.as_json())
    return entry, remembered
