"""Plan a query: choose points or rollups for each series, and check the limits before the read.

Blocks are fetched whole, but most are decoded only for the series of the query. So a query has two costs: the points
in its blocks, and an estimate of the points of its series. Heavy queries share a few slots per process.
"""

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from metrics.query.accumulators import Accumulator, parse_percentile
from metrics.query.query import Query
from metrics.query.result import ResolvedSeries
from metrics.storage.connection import Connection, read_connection
from metrics.storage.format.codec import Columns, Ints
from metrics.storage.merge import rollups
from metrics.storage.merge.rollups import RollupUse
from metrics.storage.read.plan import ReadPlan, plan_read, snapshot
from metrics.storage.series_registry import DEFAULT_DEFINITION, current_registry
from metrics.storage.units import DAY, SECOND, to_datetime
from rest.errors import InvalidField, Overloaded

MAX_READ_POINTS = 200_000_000  # of the blocks of one query
MAX_HELD_POINTS = 20_000_000  # of one query that holds all values at once: percentiles, raw points
HEAVY_POINTS = 2_000_000  # of its blocks, from which on a query needs a slot
HEAVY_SLOTS = 2  # heavy queries at once per process
MAX_WAITING_HEAVY = 6  # heavy queries that wait for a slot: each holds a thread that light ones need
HEAVY_TIMEOUT = 25.0  # seconds that a heavy query waits for a slot

_heavy_slots = threading.BoundedSemaphore(HEAVY_SLOTS)
_heavy_queue = threading.BoundedSemaphore(MAX_WAITING_HEAVY)


# --- points or rollups ------------------------------------------------------------------------------


class RollupChoice(NamedTuple):
    """Which rollups can answer a query.

    resolution       seconds; None: none can
    replaces_points  whether they are read instead of points that still exist
    """

    resolution: int | None
    replaces_points: bool


NO_ROLLUPS = RollupChoice(None, False)


@dataclass(frozen=True, slots=True)
class PlanPiece:
    """Series (ascending ids) that are read in the same way: with the same rollups, from the same day on."""

    ids: Ints
    rollup_use: RollupUse | None = None


def choose_rollups(query: Query, accumulator: type[Accumulator], edges: Ints) -> RollupChoice:
    """Return the rollups for an aggregation in time buckets with these edges."""
    usable = accumulator.rollup_stat is not None or accumulator.accepts_rollup_ends
    if not usable or query.has_filters or query.group_tag is not None:
        return NO_ROLLUPS
    return RollupChoice(rollups.coarsest_resolution(edges), accumulator.rollup_stat is not None)


def choose_chart_rollups(query: Query) -> RollupChoice:
    """Return the rollups for raw points that are downsampled to `max_points`."""
    if query.max_points is None or query.has_filters:
        return NO_ROLLUPS
    longest = 2 * (query.end_us - query.start_us) // query.max_points
    fine_enough = [resolution for resolution in rollups.RESOLUTIONS if resolution * SECOND <= longest]
    return RollupChoice(fine_enough[-1], True) if fine_enough else RollupChoice(rollups.FIVE_MINUTES, False)


def plan_pieces(
    series: Iterable[ResolvedSeries], choice: RollupChoice, max_points: int | None = None
) -> list[PlanPiece]:
    """Split series by the retention of their points: it decides from which day on only rollups exist.

    With `max_points`, each series is downsampled to that many points.
    """
    definitions = current_registry().definitions
    by_retention: dict[int | None, list[int]] = {}
    for one_series in series:
        days = definitions.get(one_series.metric_name, DEFAULT_DEFINITION).retention // DAY
        has_rollups = choice.resolution is not None and one_series.kind.is_number
        by_retention.setdefault(days if has_rollups else None, []).append(one_series.id)
    pieces = []
    for retention_days, series_ids in by_retention.items():
        ids = np.unique(np.array(series_ids, np.int64))
        rollup_use = None
        if retention_days is not None and choice.resolution is not None:
            total = None if max_points is None else max_points * len(ids)
            rollup_use = RollupUse(choice.resolution, _retention_start(retention_days), choice.replaces_points, total)
        pieces.append(PlanPiece(ids, rollup_use))
    return pieces


def find_expired_points(query: Query, series: Iterable[ResolvedSeries], resolution: int | None) -> list[str]:
    """Return what is missing from a result because points expired and rollups of a resolution (seconds; None: none)
    do not replace them."""
    if resolution == rollups.ONE_HOUR:
        return []
    messages = []
    for piece in plan_pieces(series, RollupChoice(rollups.ONE_HOUR, False)):
        if piece.rollup_use is None or query.start_us >= (expired := piece.rollup_use.points_from):
            continue
        start, end = query.start_us, min(query.end_us, expired)
        with read_connection() as connection:
            if resolution is not None and rollups.has_rollups(connection, piece.ids, resolution, start, end):
                continue
            if not rollups.has_rollups(connection, piece.ids, rollups.ONE_HOUR, start, end):
                continue
        kept = "avg, min, max, sum, count, first and last" if resolution is None else "hourly rollups"
        messages.append(f"points from before {to_datetime(expired).date()} have expired; only {kept} are kept")
    return list(dict.fromkeys(messages))


def _retention_start(days: int) -> int:
    """Return the time (µs) before which points have expired."""
    return (time.time_ns() // 1000 - days * DAY) // DAY * DAY


# --- limits -----------------------------------------------------------------------------------------


def point_limit(query: Query) -> int:
    """Return how many points of its series a query may read: fewer if it holds them all at once."""
    holds_all = query.aggregation is None or parse_percentile(query.aggregation) is not None
    return MAX_HELD_POINTS if holds_all else MAX_READ_POINTS


@contextmanager
def open_read(
    query: Query, pieces: Sequence[PlanPiece], max_points: int
) -> Iterator[tuple[Connection, list[ReadPlan]]]:
    """Plan the pieces in one snapshot, check the limits, and wait for a slot if the query is heavy.

    Raises InvalidField over a limit, Overloaded if no slot becomes free.
    """
    with snapshot() as connection:
        plans = _storage_plans(connection, query, pieces)
        check_limits(query, plans, max_points)
        is_light = sum(storage_plan.points for storage_plan in plans) < HEAVY_POINTS
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
            yield connection, _storage_plans(connection, query, pieces)
    finally:
        _heavy_slots.release()


def _storage_plans(connection: Connection, query: Query, pieces: Sequence[PlanPiece]) -> list[ReadPlan]:
    return [plan_read(connection, piece.ids, query.start_us, query.end_us, piece.rollup_use) for piece in pieces]


def check_limits(query: Query, plans: Sequence[ReadPlan], max_points: int) -> None:
    """Raise InvalidField if plans would read too much, or more than `max_points` of the series of the query."""
    _check_points(
        query, sum(storage_plan.estimated_points(unmerged_fraction=1.0) for storage_plan in plans), max_points
    )
    _check_points(query, sum(storage_plan.points for storage_plan in plans), MAX_READ_POINTS)


def limit_points(query: Query, pieces: Iterable[Columns], max_points: int) -> Iterator[Columns]:
    """Yield pieces; raise InvalidField when they have far more points than `max_points`, on which the plan relied."""
    count = 0
    for piece in pieces:
        count += len(piece)
        _check_points(query, count, 2 * max_points)
        yield piece


def _check_points(query: Query, points: int, max_points: int) -> None:
    if points <= max_points:
        return
    hours = int((query.end_us - query.start_us) / (3600 * SECOND) * max_points / points)
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
