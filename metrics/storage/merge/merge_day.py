"""Merging the runs of a unit, a bucket's day, into one; at last into its final rows, with its rollups."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns, DamagedPayload, Ints, decode, unseal
from metrics.storage.format.layout import SETTLED, by_encoding, of_series
from metrics.storage.locks import lock_unit
from metrics.storage.merge import damaged_blocks, rollups
from metrics.storage.merge.insert_blocks import Run, insert_run, insert_settled
from metrics.storage.merge.point_counts import Change
from metrics.storage.merge.retention_policies import policies
from metrics.storage.merge.rollups import Place
from metrics.storage.units import DAY

AT_ONCE = 3_000_000  # points that are put together at a time: what a merge needs of memory

_ROWS = """
SELECT seq_to, id, level, seq_from, series_from, series_to, points FROM metrics_block
WHERE shard = %s AND bucket = %s AND day = %s ORDER BY seq_to, id
"""


class Row(NamedTuple):
    """A row of merged blocks without its payload."""

    seq_to: int
    id: int
    level: int
    seq_from: int
    series_from: int
    series_to: int
    points: int


_SEQ_TO = Row._fields.index("seq_to")


def merge_unit(connection: Connection, place: Place, level: int, now: float) -> int:
    """What a unit has below `level` becomes one run of `level`; with SETTLED, the final rows of the day.

    Where a block of the unit is set aside, what is older and what is newer than it become runs of their own.
    Returns how many points were merged.
    """
    with connection.transaction():
        if not lock_unit(connection, place.bucket, place.day):
            return 0
        found = [Row(*row) for row in connection.execute(_ROWS, (place.shard, place.bucket, place.day))]
        fences = damaged_blocks.fences(connection, place.shard, place.bucket, place.day, DAY)
        return _merge_sides(connection, place, found, fences, _Aim(level, now))


class _Aim(NamedTuple):
    """What is to become of a unit, and when: in seconds since 1970."""

    level: int
    now: float


def _merge_sides(connection: Connection, place: Place, found: list[Row], fences: Sequence[int], aim: _Aim) -> int:
    if not any(row.level < aim.level for row in found):
        return 0
    whole = not fences
    if aim.level == SETTLED and not whole:
        # Rollups are complete or absent; they come back with the block that is set aside.
        rollups.drop(connection, place)
    sides = damaged_blocks.sides(found, _SEQ_TO, fences)
    return sum(_merge_side(connection, place, side, aim, whole) for side in sides)


def _merge_side(connection: Connection, place: Place, found: list[Row], aim: _Aim, whole: bool) -> int:
    """The same for rows of a unit, in order of `seq_to`, between which nothing is set aside."""
    fresh = [row for row in found if row.level < aim.level]
    if not fresh:
        return 0
    settled = [row for row in found if row.level == SETTLED == aim.level]
    resolutions = rollups.existing(connection, place) if aim.level == SETTLED else set()
    anew = whole and aim.level == SETTLED and not resolutions
    if not anew:
        low, high = min(row.series_from for row in fresh), max(row.series_to for row in fresh)
        settled = [row for row in settled if row.series_from <= high and row.series_to >= low]
    # Older runs first, and so the later write of a time wins: a run's rows share one range of seq,
    # and the ranges of two runs of a unit never cross.
    taken = sorted(settled + fresh)
    payloads = _payloads(connection, place.shard, taken)
    if damaged := _damaged(payloads):
        for row in taken:
            if row.id in damaged:
                damaged_blocks.set_aside(connection, 1, (place.shard, row.id))
        good = [row for row in found if row.id not in damaged]
        return _merge_sides(connection, place, good, sorted(row.seq_to for row in found if row.id in damaged), aim)
    _delete(connection, place.shard, taken)
    run = Run(place.shard, aim.level, min(row.seq_from for row in taken), max(row.seq_to for row in taken))
    total, change = 0, Change(connection, place.shard)
    change.resized(place.bucket, -sum(map(len, payloads.values())))
    for parts in _slices(taken, payloads):
        columns = by_encoding([part for _, part in parts])
        total += sum(map(len, columns))
        change.replaced([part for _, part in parts], columns)
        if aim.level < SETTLED:
            for some in columns:
                insert_run(connection, some, run, change)
            continue
        # Only of series that had fresh points are all the day's points sure to be here: another's may be in two rows.
        complete = np.unique(
            np.concatenate([part.ids for row, part in parts if anew or row.level < SETTLED] or [_NONE])
        )
        for some in columns:
            due = of_series(some, complete) if whole and some.is_numbers else _NOTHING
            if len(due) and not resolutions:
                resolutions = rollups.fitting(due)
            _settle(connection, place, some, run, due, resolutions, aim.now, change)
    change.apply()
    return total


_NONE: Ints = np.empty(0, np.int64)
_NOTHING = Columns(_NONE, np.zeros(1, np.int64), _NONE, np.empty(0))


def _settle(
    connection: Connection,
    place: Place,
    points: Columns,
    run: Run,
    due: Columns,
    resolutions: set[int],
    now: float,
    change: Change,
) -> None:
    """Store final rows of a day, and the rollups of those series, `due`, of which all points are here."""
    kept = policies(connection, points.ids.tolist())
    insert_settled(connection, points, run, kept, change)
    if len(due):
        rollups.write(connection, place, due, kept, now, resolutions)


def _payloads(connection: Connection, shard: int, taken: Sequence[Row]) -> dict[int, bytes]:
    statement = "SELECT id, payload FROM metrics_block WHERE shard = %s AND id = ANY(%s)"
    return dict(connection.execute(statement, (shard, [row.id for row in taken]), binary=True).fetchall())


def _delete(connection: Connection, shard: int, taken: Sequence[Row]) -> None:
    connection.execute(
        "DELETE FROM metrics_block WHERE shard = %s AND id = ANY(%s)", (shard, [row.id for row in taken])
    )


def _damaged(payloads: dict[int, bytes]) -> set[int]:
    found = set()
    for number, payload in payloads.items():
        try:
            unseal(payload)
        except DamagedPayload:
            found.add(number)
    return found


def _slices(taken: list[Row], payloads: dict[int, bytes]) -> Iterator[list[tuple[Row, Columns]]]:
    """The parts of rows, oldest first, a stretch of series at a time, so that not too many points are held at once."""
    low, high = min(row.series_from for row in taken), max(row.series_to for row in taken) + 1
    many = min(max(1, -(-sum(row.points for row in taken) // AT_ONCE)), high - low)
    edges = np.linspace(low, high, many + 1).astype(np.int64)
    for first, last in zip(edges[:-1], edges[1:], strict=True):
        parts = [
            (row, kept)
            for row in taken
            if row.series_from < last and row.series_to >= first
            for part in decode(payloads[row.id])
            if len(kept := _between(part, int(first), int(last)))
        ]
        if parts:
            yield parts


def _between(part: Columns, first: int, last: int) -> Columns:
    low, high = np.searchsorted(part.ids, (first, last)).tolist()
    return part if high - low == len(part.ids) else part.part(low, high)
