"""Damaged blocks: their checksum differs. They are logged, quarantined with their metadata, and named in responses.

A reader leaves a damaged block out and names it, so that the response says that it is incomplete. Merged blocks are
quarantined by the first reader or merge that finds them, unmerged blocks by the merge that reads them. A quarantined
block keeps its place in the commit order: merges do not join older blocks with newer ones across it, so that it can
be restored (metrics.storage.merge.restore_damaged) as if it had never been away.
"""

import logging
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple, TypeVar

import psycopg

from metrics.storage import shards
from metrics.storage.connection import Connection, connect
from metrics.storage.format.codec import Columns, DamagedPayload, decode
from metrics.storage.format.layout import MERGED, SERIES_PER_BUCKET, UNMERGED
from metrics.storage.locks import lock_day
from metrics.storage.merge import point_counts
from metrics.storage.shards import BlockId
from metrics.storage.units import DAY

log = logging.getLogger(__name__)

_IN_RANGE = """
SELECT d.level, d.shard, d.number FROM metrics_damagedblock d
WHERE (d.bucket IS NULL OR d.bucket = ANY(%(buckets)s) AND d.series_from <= %(high)s AND d.series_to >= %(low)s)
  AND d.time_to >= %(start)s AND d.time_from < %(end)s
"""
_QUARANTINE_COMMIT = """
INSERT INTO metrics_damagedblock
    (shard, level, number, seq_from, seq_to, time_from, time_to, points, found_at, payload)
SELECT shard, 0, seq, seq, seq, time_from, time_to, points, now(), payload
FROM metrics_young WHERE shard = %s AND seq = %s ON CONFLICT DO NOTHING
"""
_QUARANTINE_MERGED = """
INSERT INTO metrics_damagedblock (shard, level, number, bucket, day, seq_from, seq_to, series_from, series_to,
    time_from, time_to, points, found_at, payload)
SELECT shard, level, id, bucket, day, seq_from, seq_to, series_from, series_to,
    time_from, time_to, points, now(), payload
FROM metrics_block WHERE shard = %s AND id = %s ON CONFLICT DO NOTHING RETURNING bucket
"""
_BLOCK_DAY = "SELECT bucket, day FROM metrics_block WHERE shard = %s AND id = %s"
_QUARANTINED_SEQS = """
SELECT seq_to FROM metrics_damagedblock WHERE shard = %s AND (bucket = %s AND day = %s
    OR bucket IS NULL AND time_from < %s AND time_to >= %s) ORDER BY seq_to
"""

_OF_SERIES = """
SELECT level, shard, number FROM metrics_damagedblock
WHERE bucket IS NULL OR series_from <= %(high)s AND series_to >= %(low)s
    AND EXISTS (SELECT FROM unnest(%(series)s::bigint[]) s WHERE s BETWEEN series_from AND series_to)
ORDER BY id
"""

_RowT = TypeVar("_RowT", bound=Sequence[Any])

_logged: set[str] = set()


def block_name(source: int, number: BlockId) -> str:
    """Return the name of a block in logs and responses."""
    shard = f" of shard {number[0]}" if shards.count() > 1 else ""
    return f"{('unmerged', 'merged')[source]} block {number[1]}{shard}"


def log_damage_once(name: str) -> None:
    """Log once per process that a block is damaged."""
    if name not in _logged:
        _logged.add(name)
        log.error("%s is damaged: its checksum differs", name)


def reset_logged_damage() -> None:
    """Forget which blocks were logged, when sequence numbers may be reused."""
    _logged.clear()


def report_damaged_block(source: int, number: BlockId) -> str:
    """Log a damaged block found by a reader, quarantine it if possible, and return its name."""
    name = block_name(source, number)
    log_damage_once(name)
    if source == MERGED:
        try:
            with connect() as connection, connection.transaction():
                bucket_day = connection.execute(_BLOCK_DAY, number).fetchone()
                if bucket_day is not None and lock_day(connection, *bucket_day):  # otherwise a merge quarantines it
                    quarantine_block(connection, source, number)
        except psycopg.OperationalError as error:
            log.warning("%s is not quarantined yet: %s", name, str(error).split("\n")[0])
    return name


def quarantine_block(connection: Connection, source: int, number: BlockId) -> None:
    """Move a block to the quarantine in the caller's transaction; the caller holds the lock of its day or shard."""
    log_damage_once(block_name(source, number))
    if source == UNMERGED:
        connection.execute(_QUARANTINE_COMMIT, number)
        connection.execute("DELETE FROM metrics_young WHERE shard = %s AND seq = %s", number)
    else:
        row = connection.execute(_QUARANTINE_MERGED, number).fetchone()
        if row is not None:  # its points per series are unknown
            point_counts.mark_for_rebuild(
                connection, number[0], row[0] * SERIES_PER_BUCKET // point_counts.SERIES_PER_RANGE
            )
        connection.execute("DELETE FROM metrics_block WHERE shard = %s AND id = %s", number)


class DamageCount(NamedTuple):
    """The number of quarantined blocks and of their points."""

    blocks: int
    points: int


def count_damage(connection: Connection) -> DamageCount:
    """Count the quarantined blocks."""
    row = connection.execute("SELECT count(*), coalesce(sum(points), 0)::bigint FROM metrics_damagedblock").fetchone()
    assert row is not None
    return DamageCount(*row)


def damaged_in_range(connection: Connection, parameters: dict[str, Any]) -> list[str]:
    """Return the names of quarantined blocks that may belong to a response."""
    rows = connection.execute(_IN_RANGE, parameters)
    return [
        block_name(MERGED if level else UNMERGED, (shard, number))
        for level, shard, number in rows
        if shard in parameters["shards"]
    ]


def damaged_of_series(connection: Connection, series: Sequence[int]) -> list[str]:
    """Return the names of quarantined blocks that may have points of these series (ascending)."""
    rows = connection.execute(_OF_SERIES, {"series": series, "low": series[0], "high": series[-1]})
    return [block_name(MERGED if level else UNMERGED, (shard, number)) for level, shard, number in rows]


def decode_commit_runs(
    connection: Connection, shard: int, commits: Iterable[tuple[int, bytes]]
) -> list[tuple[int, int, list[Columns]]]:
    """Decode commits in order into unbroken runs (first, last, parts).

    A damaged commit is quarantined and ends its run.
    """
    runs: list[tuple[int, int, list[Columns]]] = []
    starts_run = True
    for seq, payload in commits:
        try:
            parts = decode(payload)
        except DamagedPayload:
            quarantine_block(connection, UNMERGED, (shard, seq))
            starts_run = True
            continue
        if starts_run:
            runs.append((seq, seq, parts))
        else:
            first, _, run_parts = runs[-1]
            runs[-1] = (first, seq, run_parts + parts)
        starts_run = False
    return runs


def quarantined_seqs(connection: Connection, shard: int, bucket: int, day: int) -> list[int]:
    """Return the last sequence number of each quarantined block of a bucket and day."""
    parameters = (shard, bucket, day, (day + 1) * DAY, day * DAY)
    return [seq for (seq,) in connection.execute(_QUARANTINED_SEQS, parameters)]


def split_at_quarantined(rows: Iterable[_RowT], seq_to: int, seqs: Sequence[int]) -> Iterator[list[_RowT]]:
    """Split rows in order of `seq_to` (the index of that column) where a quarantined block is between them."""
    for _, group in groupby(rows, lambda row: bisect_left(seqs, row[seq_to])):
        yield list(group)
