"""Merge of a bucket's day: its runs become one run, and in the end day blocks with rollups."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns, DamagedPayload, Ints, decode, unseal
from metrics.storage.format.layout import DAY_LEVEL, MERGED, drop_removed, merge_by_encoding, select_series
from metrics.storage.locks import lock_day
from metrics.storage.merge import damaged_blocks, rollups
from metrics.storage.merge.insert_blocks import MergeRun, insert_day_blocks, insert_run
from metrics.storage.merge.point_counts import CountChange
from metrics.storage.merge.retention_policies import read_policies
from metrics.storage.merge.rollups import BucketDay

MAX_SLICE_POINTS = 3_000_000  # points merged at a time, which bounds the memory of a merge

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


def merge_day(connection: Connection, bucket_day: BucketDay, level: int, now: float) -> int:
    """Merge the blocks below `level` into one run of `level`; DAY_LEVEL makes day blocks. Return the points merged.

    If a block of the day is quarantined, older and newer blocks become separate runs.
    """
    with connection.transaction():
        if not lock_day(connection, bucket_day.bucket, bucket_day.day):
            return 0
        rows = [
            MergeSource(*row)
            for row in connection.execute(_ROWS, (bucket_day.shard, bucket_day.bucket, bucket_day.day))
        ]
        quarantined = damaged_blocks.quarantined_seqs(connection, bucket_day.shard, bucket_day.bucket, bucket_day.day)
        return _merge_between_quarantined(connection, bucket_day, rows, quarantined, _MergeTarget(level, now))


class _MergeTarget(NamedTuple):
    """The level to merge to, and the time of the merge in seconds since 1970."""

    level: int
    now: float


def _merge_between_quarantined(
    connection: Connection,
    bucket_day: BucketDay,
    rows: list[MergeSource],
    quarantined: Sequence[int],
    target: _MergeTarget,
) -> int:
    if not any(row.level < target.level for row in rows):
        return 0
    is_complete = not quarantined
    if target.level == DAY_LEVEL and not is_complete:
        # A day has complete rollups or none; they are made again when the block is restored.
        rollups.delete_day(connection, bucket_day)
    groups = damaged_blocks.split_at_quarantined(rows, _SEQ_TO, quarantined)
    return sum(_merge_rows(connection, bucket_day, group, target, is_complete) for group in groups)


def _merge_rows(
    connection: Connection, bucket_day: BucketDay, rows: list[MergeSource], target: _MergeTarget, is_complete: bool
) -> int:
    """Merge rows of a day, in order of `seq_to`, between which no block is quarantined."""
    fresh = [row for row in rows if row.level < target.level]
    if not fresh:
        return 0
    day_rows = [row for row in rows if row.level == DAY_LEVEL == target.level]
    resolutions = rollups.stored_resolutions(connection, bucket_day) if target.level == DAY_LEVEL else set()
    rebuilds_all = is_complete and target.level == DAY_LEVEL and not resolutions
    if not rebuilds_all:
        low, high = min(row.series_from for row in fresh), max(row.series_to for row in fresh)
        day_rows = [row for row in day_rows if row.series_from <= high and row.series_to >= low]
    # Older runs first, so that the later write of a time wins: the rows of a run share one range of sequence numbers,
    # and the ranges of two runs of a day never overlap.
    merged = sorted(day_rows + fresh)
    payloads = _read_payloads(connection, bucket_day.shard, merged)
    if damaged := _find_damaged(payloads):
        for row in merged:
            if row.id in damaged:
                damaged_blocks.quarantine_block(connection, MERGED, (bucket_day.shard, row.id))
        intact = [row for row in rows if row.id not in damaged]
        return _merge_between_quarantined(
            connection, bucket_day, intact, sorted(row.seq_to for row in rows if row.id in damaged), target
        )
    _delete_rows(connection, bucket_day.shard, merged)
    run = MergeRun(
        bucket_day.shard, target.level, min(row.seq_from for row in merged), max(row.seq_to for row in merged)
    )
    total, change = 0, CountChange(connection, bucket_day.shard)
    change.add_bytes(bucket_day.bucket, -sum(map(len, payloads.values())))
    for parts in _decode_slices(merged, payloads):
        columns = merge_by_encoding([part for _, part in parts])
        total += sum(map(len, columns))
        change.replace([part for _, part in parts], columns)
        if target.level < DAY_LEVEL:
            for group in columns:
                insert_run(connection, group, run, change)
            continue
        # Only series with new points have all points of the day here; the points of other series may be in two rows.
        complete = np.unique(
            np.concatenate([part.ids for row, part in parts if rebuilds_all or row.level < DAY_LEVEL] or [_NO_SERIES])
        )
        for group in columns:
            complete_points = select_series(group, complete) if is_complete and group.is_numeric else _NO_POINTS
            if not resolutions and len(points := drop_removed(complete_points)):
                resolutions = rollups.choose_resolutions(points)
            _write_day_blocks(connection, bucket_day, group, run, complete_points, resolutions, target.now, change)
    change.apply()
    return total


_NO_SERIES: Ints = np.empty(0, np.int64)
_NO_POINTS = Columns(_NO_SERIES, np.zeros(1, np.int64), _NO_SERIES, np.empty(0))


def _write_day_blocks(
    connection: Connection,
    bucket_day: BucketDay,
    points: Columns,
    run: MergeRun,
    complete_points: Columns,
    resolutions: set[int],
    now: float,
    change: CountChange,
) -> None:
    """Insert day blocks, and the rollups of the series in `complete_points`, which has all points of their day."""
    policies = read_policies(connection, points.ids.tolist())
    insert_day_blocks(connection, points, run, policies, change)
    if len(complete_points):
        rollups.write_rollups(connection, bucket_day, complete_points, policies, now, resolutions)


def _read_payloads(connection: Connection, shard: int, rows: Sequence[MergeSource]) -> dict[int, bytes]:
    statement = "SELECT id, payload FROM metrics_block WHERE shard = %s AND id = ANY(%s)"
    return dict(connection.execute(statement, (shard, [row.id for row in rows]), binary=True).fetchall())


def _delete_rows(connection: Connection, shard: int, rows: Sequence[MergeSource]) -> None:
    connection.execute("DELETE FROM metrics_block WHERE shard = %s AND id = ANY(%s)", (shard, [row.id for row in rows]))


def _find_damaged(payloads: dict[int, bytes]) -> set[int]:
    damaged = set()
    for number, payload in payloads.items():
        try:
            unseal(payload)
        except DamagedPayload:
            damaged.add(number)
    return damaged


def _decode_slices(rows: list[MergeSource], payloads: dict[int, bytes]) -> Iterator[list[tuple[MergeSource, Columns]]]:
    """Yield the parts of rows, oldest first, for consecutive ranges of series, which bounds the points in memory."""
    low, high = min(row.series_from for row in rows), max(row.series_to for row in rows) + 1
    slices = min(max(1, -(-sum(row.points for row in rows) // MAX_SLICE_POINTS)), high - low)
    edges = np.linspace(low, high, slices + 1).astype(np.int64)
    for first, last in zip(edges[:-1], edges[1:], strict=True):
        parts = [
            (row, selected)
            for row in rows
            if row.series_from < last and row.series_to >= first
            for part in decode(payloads[row.id])
            if len(selected := _select_series_range(part, int(first), int(last)))
        ]
        if parts:
            yield parts


def _select_series_range(part: Columns, first: int, last: int) -> Columns:
    low, high = np.searchsorted(part.ids, (first, last)).tolist()
    return part if high - low == len(part.ids) else part.slice_series(low, high)
