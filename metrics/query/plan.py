"""The read of a query: planned in storage, checked against the limits, and filtered.

Blocks are fetched whole, but most are decoded only for the series of the query. So a query has two costs: the points
in its blocks, and an estimate of the points of its series. Heavy queries share a few slots per process.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns
from metrics.storage.format.contexts import tags_of
from metrics.storage.format.layout import select_points
from metrics.storage.read.plan import ReadPlan, plan_read, snapshot
from metrics.storage.read.rollups import PlanPiece, StoredSeries, find_expiry_times
from metrics.storage.read.scan import read_points
from metrics.storage.units import SECOND, to_datetime
from rest.errors import InvalidField, Overloaded

MAX_READ_POINTS = 200_000_000  # of the blocks of one query
MAX_HELD_POINTS = 20_000_000  # of one query that holds all values at once: percentiles, raw points
HEAVY_POINTS = 2_000_000  # of its blocks, from which on a query needs a slot
HEAVY_SLOTS = 2  # heavy queries at once per process
MAX_WAITING_HEAVY = 6  # heavy queries that wait for a slot: each holds a thread that light ones need
HEAVY_TIMEOUT = 25.0  # seconds that a heavy query waits for a slot

_heavy_slots = threading.BoundedSemaphore(HEAVY_SLOTS)
_heavy_queue = threading.BoundedSemaphore(MAX_WAITING_HEAVY)


@dataclass(frozen=True, slots=True)
class PointFilter:
    """Which points count, by their tags and values. Of a query without filters it is None."""

    tags: dict[str, Any]
    min_value: float | None
    max_value: float | None

    def select(self, piece: Columns) -> Columns | None:
        """Return the points of a piece that pass; None if there are none."""
        mask = np.ones(len(piece), bool)
        if self.min_value is not None:
            mask &= piece.values >= self.min_value
        if self.max_value is not None:
            mask &= piece.values <= self.max_value
        if self.tags:
            if piece.contexts is None:
                return None
            matches = [self.tags.items() <= tags_of(entry).items() for entry in piece.dictionary]
            mask &= np.array(matches, bool)[piece.contexts]
        if mask.all():
            return piece
        return select_points(piece, mask) if mask.any() else None


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """One read: points of series from `start` to before `end` (µs), and their limits.

    max_points        of these series
    is_partial        whether the read ends early, so that its estimated points may be more
    max_block_points  points of merged blocks over which the series have to be read in smaller batches
    """

    pieces: Sequence[PlanPiece]
    start: int
    end: int
    max_points: int
    filters: PointFilter | None = None
    is_partial: bool = False
    max_block_points: int | None = None


class BatchTooLarge(Exception):
    """The series of a request have to be read in smaller batches."""


@dataclass(slots=True)
class ReadReport:
    """Sources of the points for `explain`, and the missing points."""

    incomplete: list[str] = field(default_factory=list)
    counts: dict[str, Any] = field(default_factory=dict)

    def add(self, plan: ReadPlan) -> None:
        """Add the counts of a plan that was read, and its damaged blocks."""
        self.incomplete += [f"{name} is damaged and was left out" for name in plan.damaged]
        for name in ("series", "young_blocks", "points_in_blocks", "intervals_in_rollups"):
            self.counts.setdefault(name, 0)
        for name in ("blocks_by_level", "rollups_by_seconds"):
            self.counts.setdefault(name, {})
        self.counts["series"] += len(plan.series)
        self.counts["young_blocks"] += plan.unmerged_commits
        self.counts["points_in_blocks"] += plan.points - plan.rollup_intervals
        self.counts["intervals_in_rollups"] += plan.rollup_intervals
        if plan.rollup_use is not None:
            rollups = self.counts["rollups_by_seconds"]
            rollups.setdefault(str(plan.rollup_use.resolution), 0)
            for row in plan.rollup_rows:
                rollups[str(row.resolution)] = rollups.get(str(row.resolution), 0) + 1
        levels = self.counts["blocks_by_level"]
        for level, blocks in plan.levels().items():
            levels[level] = levels.get(level, 0) + blocks


def find_expired_points(series: Iterable[StoredSeries], resolution: int | None, start: int, end: int) -> list[str]:
    """Return what is missing from a result because points expired and rollups of a resolution (seconds; None: none)
    do not replace them."""
    kept = "avg, min, max, sum, count, first and last" if resolution is None else "hourly rollups"
    return [
        f"points from before {to_datetime(expired).date()} have expired; only {kept} are kept"
        for expired in find_expiry_times(series, resolution, start, end)
    ]


def point_limit(holds_points: bool) -> int:
    """Return how many points of its series a query may read: fewer if it holds all of them at once."""
    return MAX_HELD_POINTS if holds_points else MAX_READ_POINTS


@contextmanager
def open_read(request: ReadRequest) -> Iterator[tuple[Connection, list[ReadPlan]]]:
    """Plan a read in one snapshot, check the limits, and wait for a slot if it is heavy.

    Raises BatchTooLarge, InvalidField over a limit, or Overloaded if no slot becomes free.
    """
    with snapshot() as connection:
        plans = _plan_pieces(connection, request)
        check_limits(request, plans)
        is_light = sum(plan.points for plan in plans) < HEAVY_POINTS
        if is_light or _heavy_slots.acquire(blocking=False):
            try:
                yield connection, plans
            finally:
                if not is_light:
                    _heavy_slots.release()
            return
    _wait_for_slot()  # without a snapshot, which would keep PostgreSQL from removing old rows
    try:
        with snapshot() as connection:
            yield connection, _plan_pieces(connection, request)
    finally:
        _heavy_slots.release()


def _plan_pieces(connection: Connection, request: ReadRequest) -> list[ReadPlan]:
    return [plan_read(connection, piece.ids, request.start, request.end, piece.rollup_use) for piece in request.pieces]


def check_limits(request: ReadRequest, plans: Sequence[ReadPlan]) -> None:
    """Raise InvalidField if plans would read too much, BatchTooLarge if smaller batches would not."""
    points = sum(plan.points for plan in plans)
    unmerged_points = sum(plan.unmerged_points for plan in plans)
    if request.max_block_points is not None and points - unmerged_points > request.max_block_points:
        raise BatchTooLarge
    estimate = sum(plan.estimated_points(unmerged_fraction=1.0) for plan in plans)
    _check_points(request, estimate, MAX_READ_POINTS if request.is_partial else request.max_points)
    _check_points(request, points, MAX_READ_POINTS)


def read_matching_points(
    connection: Connection, plan: ReadPlan, request: ReadRequest, whole: bool = False
) -> Iterator[Columns]:
    """Yield the points of a plan that pass the filters; with `whole` each series of a day is one piece.

    Raises InvalidField when there are far more points than `max_points`, on which the plan relied.
    """
    count = 0
    for piece in read_points(connection, plan, whole):
        count += len(piece)
        _check_points(request, count, 2 * request.max_points)
        matching = piece if request.filters is None else request.filters.select(piece)
        if matching is not None:
            yield matching


def _check_points(request: ReadRequest, points: int, max_points: int) -> None:
    if points <= max_points:
        return
    hours = int((request.end - request.start) / (3600 * SECOND) * max_points / points)
    span = f"{hours // 24} days" if hours >= 48 else f"{hours} hours" if hours > 1 else "a shorter range"
    detail = f"the query would read about {points:,} points, at most {max_points:,} are allowed"
    raise InvalidField("start_time", f"{detail}; query {span}, or fewer devices")


def _wait_for_slot() -> None:
    if not _heavy_queue.acquire(blocking=False):
        raise Overloaded("too many large queries are waiting; try again")
    try:
        if not _heavy_slots.acquire(timeout=HEAVY_TIMEOUT):
            raise Overloaded("too many large queries are running; try again")
    finally:
        _heavy_queue.release()


def split_by_tag(tag: str | None, piece: Columns) -> Iterator[tuple[str | None, Columns]]:
    """Yield (value of the tag, its points); all points under None without a tag."""
    if tag is None or piece.contexts is None:
        yield None, piece
        return
    values = [_tag_text(tags_of(context).get(tag)) for context in piece.dictionary]
    for value in dict.fromkeys(values):
        mask = np.array([entry == value for entry in values], bool)[piece.contexts]
        if mask.any():
            yield value, piece if mask.all() else select_points(piece, mask)


def _tag_text(value: object) -> str | None:
    """Return the value of a tag as a label."""
    return value if value is None or isinstance(value, str) else str(value)
