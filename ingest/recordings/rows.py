"""Rows of a recording to a Batch, and the line and reason of every row that cannot be one of its points."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest.recordings.header import Roles
from ingest.recordings.localtime import LocalTime
from ingest.recordings.source import Block
from ingest.recordings.timestamps import Ints, read_moments
from ingest.recordings.values import read_mapping, read_values
from ingest.wire.batch import Batch, Contexts, Group
from ingest.wire.validate import BadPoint, check_name, check_unit
from metrics.storage.format.codec import Kind


@dataclass(slots=True)
class Rows:
    """Some rows whose times and names are good; `bad` are those beside them, as (line, field, why)."""

    devices: Sequence[str]
    metrics: Sequence[str]
    times: Ints
    cells: Sequence[str]
    contexts: Sequence[Sequence[str]]  # cells of unit, tags, metadata; empty where the file has no such column
    lines: Sequence[int]
    bad: list[tuple[int, str, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.lines)

    def only(self, good: NDArray[np.bool_]) -> None:
        """Leave the others out."""
        if good.all():
            return
        places = np.flatnonzero(good).tolist()

        def chosen(column: Sequence[Any]) -> list[Any]:
            return [column[place] for place in places]

        self.devices, self.metrics, self.cells = chosen(self.devices), chosen(self.metrics), chosen(self.cells)
        self.contexts = [chosen(column) if column else column for column in self.contexts]
        self.lines, self.times = chosen(self.lines), self.times[places]


def parts(block: Block, most: int) -> list[Block]:
    """The block in pieces of at most so many rows; at least one piece."""
    count = len(block.lines)
    found = [
        Block([column[start : start + most] for column in block.columns], block.lines[start : start + most], 0, 0)
        for start in range(0, max(count, 1), most)
    ]
    found[0].ragged = block.ragged
    return found


class RowReader:
    """Reads rows of one file, whose header has told what is where. `device` and `metric` go before its columns."""

    def __init__(self, roles: Roles, device: str | None, metric: str | None, local: LocalTime, shift: int = 0) -> None:
        self._roles, self._device, self._metric, self._local, self._shift = roles, device, metric, local, shift
        self._names: dict[tuple[str, str], str | None] = {}
        self.width = roles.width

    def read(self, block: Block) -> Rows:
        count, roles = len(block.lines), self._roles
        devices = self._column(block, self._device, roles.device)
        metrics = self._column(block, self._metric, roles.metric)
        moments = read_moments(block.columns[roles.time])
        times = self._local.to_utc(moments, lambda: self._series(block))
        rows = Rows(
            devices, metrics, times + self._shift, block.columns[roles.value],
            [block.columns[place] if place is not None else [] for place in (roles.unit, roles.tags, roles.metadata)],
            block.lines, [(line, "row", why) for line, why in block.ragged],
        )  # fmt: skip
        good = np.ones(count, bool)
        for place, why in moments.bad.items():
            rows.bad.append((block.lines[place], "timestamp", why))
            good[place] = False
        if self._device is None or self._metric is None:
            self._check_names(rows, good)
        rows.only(good)
        return rows

    def span(self, block: Block) -> tuple[int, int] | None:
        """The oldest and the newest time of a block, unshifted; None where it has no good one."""
        moments = read_moments(block.columns[self._roles.time])
        times = self._local.to_utc(moments, lambda: self._series(block))
        if moments.bad:
            times = np.delete(times, list(moments.bad))
        return (int(times.min()), int(times.max())) if len(times) else None

    def _series(self, block: Block) -> list[tuple[str, str]] | None:
        """Whose each row is; None where all are of one series."""
        if self._device is not None and self._metric is not None:
            return None
        devices = self._column(block, self._device, self._roles.device)
        return list(zip(devices, self._column(block, self._metric, self._roles.metric), strict=True))

    @staticmethod
    def _column(block: Block, given: str | None, place: int | None) -> Sequence[str]:
        if given is None:
            assert place is not None
            return block.columns[place]
        return [given] * len(block.lines)

    def _check_names(self, rows: Rows, good: NDArray[np.bool_]) -> None:
        for field_name, column in (("device_id", rows.devices), ("metric_name", rows.metrics)):
            wrong = {name for name in set(column) if self._why_no_name(name, field_name)}
            for place, name in enumerate(column if wrong else ()):
                if name in wrong and good[place]:
                    rows.bad.append((rows.lines[place], field_name, self._why_no_name(name, field_name) or ""))
                    good[place] = False

    def _why_no_name(self, name: str, field_name: str) -> str | None:
        key = (field_name, name)
        if key not in self._names:
            try:
                check_name(name, field_name)
                self._names[key] = None
            except BadPoint as bad:
                self._names[key] = bad.detail
        return self._names[key]


def batch_of(rows: Rows, kinds: Mapping[str, Kind]) -> Batch:
    """The rows as a Batch whose `indices` are their places in `rows.lines`. Rows with bad values join `rows.bad`."""
    values, bad = read_values(rows.cells, rows.metrics, kinds)
    reasons = {place: ("value", why) for place, why in bad.items()}
    contexts, dictionary = _contexts(rows, reasons)
    order = _order(rows.devices, reasons)
    rows.bad += [(rows.lines[place], *why) for place, why in reasons.items()]
    if order is None:
        indices = np.arange(len(rows))
        return Batch(_groups(rows.devices), list(rows.metrics), rows.times, values, contexts, dictionary, indices)
    places = order.tolist()
    chosen: Any = values[order] if isinstance(values, np.ndarray) else [values[place] for place in places]
    if not isinstance(chosen, np.ndarray) and all(type(value) is float for value in chosen):
        chosen = np.array(chosen, np.float64)
    return Batch(
        _groups([rows.devices[place] for place in places]),
        [rows.metrics[place] for place in places],
        rows.times[order],
        chosen,
        None if contexts is None else contexts[order],
        dictionary,
        order.astype(np.int64),
    )


def _order(devices: Sequence[str], reasons: Mapping[int, Any]) -> NDArray[np.intp] | None:
    """The good rows, those of one device together; None where all are good and in that order."""
    several = len(set(devices)) > 1
    if not several and not reasons:
        return None
    places = [place for place in range(len(devices)) if place not in reasons] if reasons else list(range(len(devices)))
    if several:
        places.sort(key=devices.__getitem__)  # stable: of equal times the last still wins
    return np.array(places, np.intp)


def _groups(devices: Sequence[str]) -> list[Group]:
    if not devices:
        return []
    if devices[0] == devices[-1]:  # they are in order
        return [Group(devices[0], 0, len(devices))]
    starts = [0, *(place for place in range(1, len(devices)) if devices[place] != devices[place - 1])]
    return [Group(devices[start], start, stop) for start, stop in zip(starts, [*starts[1:], len(devices)], strict=True)]


def _contexts(rows: Rows, reasons: dict[int, tuple[str, str]]) -> tuple[NDArray[np.int32] | None, list[bytes]]:
    if not any(rows.contexts):
        return None, []
    contexts = Contexts()
    known: dict[tuple[str, ...], int | tuple[str, str]] = {}
    blank: Sequence[str] = [""] * len(rows)
    index: list[int] = []
    for place, key in enumerate(zip(*(column or blank for column in rows.contexts), strict=True)):
        found = known.get(key)
        if found is None:
            found = known[key] = _context(contexts.add, *key)
        if isinstance(found, tuple):
            reasons.setdefault(place, found)
            found = 0
        index.append(found)
    return contexts.column(index), contexts.entries


def _context(add: Callable[..., int], unit: str, tags: str, metadata: str) -> int | tuple[str, str]:
    try:
        return add(check_unit(unit.strip()), read_mapping(tags, "tags"), read_mapping(metadata, "metadata"))
    except BadPoint as bad:
        return bad.field, bad.detail
