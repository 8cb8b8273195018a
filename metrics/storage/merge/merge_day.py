"""Merging the runs of a unit, a bucket's day, into one; at last into its final rows, with its rollups."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns, DamagedPayload, Ints, decode, unseal
from metrics.storage.format.layout import DAY_LEVEL, merge_by_encoding, select_series
from metrics.storage.locks import lock_day
from metrics.storage.merge import damaged_blocks, rollups
from metrics.storage.merge.insert_blocks import MergeRun, insert_day_blocks, insert_run
from metrics.storage.merge.point_counts import CountChange
from metrics.storage.merge.retention_policies import read_policies
from metrics.storage.merge.rollups import BucketDay
from metrics.storage.units import DAY

MAX_SLICE_POINTS = 3_000_000  # points that are put together at a time: what a merge needs of memory

_ROWS = """
SELECT seq_to, id, level, seq_from, series_from, series_to, points FROM metrics_block
WHERE shard = %s AND bucket = %s AND day = %s ORDER BY seq_to, id
"""


class MergeSource(NamedTuple):
    """A row of merged blocks without its payload."""

    seq_to: int
    id: int
    level: int
    seq_from: int
    series_from: int
    series_to: int
    points: int


_SEQ_TO = MergeSource._fields.index("seq_to")


def merge_day(connection: Connection, place: BucketDay, level: int, now: float) -> int:
    """What a unit has below `level` becomes one run of `level`; with SETTLED, the final rows of the day.

    Where a block of the unit is set aside, what is older and what is newer than it become runs of their own.
    Returns how many points were merged.
    """
    with connection.transaction():
        if not lock_day(connection, place.bucket, place.day):
            return 0
        found = [MergeSource(*row) for row in connection.execute(_ROWS, (place.shard, place.bucket, place.day))]
        fences = damaged_blocks.quarantined_seqs(connection, place.shard, place.bucket, place.day, DAY)
        return _merge_between_quarantined(connection, place, found, fences, _MergeTarget(level, now))


class _MergeTarget(NamedTuple):
    """What is to become of a unit, and when: in seconds since 1970."""

    level: int
    now: float


def _merge_between_quarantined(
    connection: Connection, place: BucketDay, found: list[MergeSource], fences: Sequence[int], aim: _MergeTarget
) -> int:
    if not any(row.level < aim.level for row in found):
        return 0
    whole = not fences
    if aim.level == DAY_LEVEL and not whole:
        # Rollups are complete or absent; they come back with the block that is set aside.
        rollups.delete_day(connection, place)
    sides = damaged_blocks.split_at_quarantined(found, _SEQ_TO, fences)
    return sum(_merge_rows(connection, place, side, aim, whole) for side in sides)


def _merge_rows(
    connection: Connection, place: BucketDay, found: list[MergeSource], aim: _MergeTarget, whole: bool
) -> int:
    """The same for rows of a unit, in order of `seq_to`, between which nothing is set aside."""
    fresh = [row for row in found if row.level < aim.level]
    if not fresh:
        return 0
    settled = [row for row in found if row.level == DAY_LEVEL == aim.level]
    resolutions = rollups.stored_resolutions(connection, place) if aim.level == DAY_LEVEL else set()
    anew = whole and aim.level == DAY_LEVEL and not resolutions
    if not anew:
        low, high = min(row.series_from for row in fresh), max(row.series_to for row in fresh)
        settled = [row for row in settled if row.series_from <= high and row.series_to >= low]
    # Older runs first, and so the later write of a time wins: a run's rows share one range of seq,
    # and the ranges of two runs of a unit never cross.
    taken = sorted(settled + fresh)
    payloads = _read_payloads(connection, place.shard, taken)
    if damaged := _find_damaged(payloads):
        for row in taken:
            if row.id in damaged:
                damaged_blocks.quarantine_block(connection, 1, (place.shard, row.id))
        good = [row for row in found if row.id not in damaged]
        return _merge_between_quarantined(
            connection, place, good, sorted(row.seq_to for row in found if row.id in damaged), aim
        )
    _delete_rows(connection, place.shard, taken)
    run = MergeRun(place.shard, aim.level, min(row.seq_from for row in taken), max(row.seq_to for row in taken))
    total, change = 0, CountChange(connection, place.shard)
    change.add_bytes(place.bucket, -sum(map(len, payloads.values())))
    for parts in _decode_slices(taken, payloads):
        columns = merge_by_encoding([part for _, part in parts])
        total += sum(map(len, columns))
        change.replace([part for _, part in parts], columns)
        if aim.level < DAY_LEVEL:
            for some in columns:
                insert_run(connection, some, run, change)
            continue
        # Only of series that had fresh points are all the day's points sure to be here: another's may be in two rows.
        complete = np.unique(
            np.concatenate([part.ids for row, part in parts if anew or row.level < DAY_LEVEL] or [_NO_SERIES])
        )
        for some in columns:
            due = select_series(some, complete) if whole and some.is_numeric else _NO_POINTS
            if len(due) and not resolutions:
                resolutions = rollups.choose_resolutions(due)
            _write_day_blocks(connection, place, some, run, due, resolutions, aim.now, change)
    change.apply()
    return total


_NO_SERIES: Ints = np.empty(0, np.int64)
_NO_POINTS = Columns(_NO_SERIES, np.zeros(1, np.int64), _NO_SERIES, np.empty(0))


def _write_day_blocks(
    connection: Connection,
    place: BucketDay,
    points: Columns,
    run: MergeRun,
    due: Columns,
    resolutions: set[int],
    now: float,
    change: CountChange,
) -> None:
    """Store final rows of a day, and the rollups of those series, `due`, of which all points are here."""
    kept = read_policies(connection, points.ids.tolist())
    insert_day_blocks(connection, points, run, kept, change)
    if len(due):
        rollups.write_rollups(connection, place, due, kept, now, resolutions)


def _read_payloads(connection: Connection, shard: int, taken: Sequence[MergeSource]) -> dict[int, bytes]:
    statement = "SELECT id, payload FROM metrics_block WHERE shard = %s AND id = ANY(%s)"
    return dict(connection.execute(statement, (shard, [row.id for row in taken]), binary=True).fetchall())


def _delete_rows(connection: Connection, shard: int, taken: Sequence[MergeSource]) -> None:
    connection.execute(
        "DELETE FROM metrics_block WHERE shard = %s AND id = ANY(%s)", (shard, [row.id for row in taken])
    )


def _find_damaged(payloads: dict[int, bytes]) -> set[int]:
    found = set()
    for number, payload in payloads.items():
        try:
            unseal(payload)
        except DamagedPayload:
            found.add(number)
    return found


def _decode_slices(taken: list[MergeSource], payloads: dict[int, bytes]) -> Iterator[list[tuple[MergeSource, Columns]]]:
    """The parts of rows, oldest first, a stretch of series at a time, so that not too many points are held at once."""
    low, high = min(row.series_from for row in taken), max(row.series_to for row in taken) + 1
    many = min(max(1, -(-sum(row.points for row in taken) // MAX_SLICE_POINTS)), high - low)
    edges = np.linspace(low, high, many + 1).astype(np.int64)
    for first, last in zip(edges[:-1], edges[1:], strict=True):
        parts = [
            (row, kept)
            for row in taken
            if row.series_from < last and row.series_to >= first
            for part in decode(payloads[row.id])
            if len(kept := _select_series_range(part, int(first), int(last)))
        ]
        if parts:
            yield parts


def _select_series_range(part: Columns, first: int, last: int) -> Columns:
    low, high = np.searchsorted(part.ids, (first, last)).tolist()
    return part if high - low == len(part.ids) else part.slice_series(low, high)
