"""Blocks whose checksum differs: reported, set aside with all that is known of them, and never silently skipped.

Whoever meets one leaves it out and names it, so that the answer says that it is incomplete. Merged blocks are set
aside by whoever meets them first, young ones by the merge that would have taken them. What is set aside keeps its
place in the order of writes: merges do not join what is older than it with what is newer, so that it can be put back
(metrics.storage.merge.restore_damaged) as if it had never been away.
"""

import logging
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, TypeVar

import psycopg

from metrics.storage import shards
from metrics.storage.connection import Connection, connect
from metrics.storage.format.codec import Columns, DamagedPayload, decode
from metrics.storage.format.layout import SERIES_PER_BUCKET
from metrics.storage.locks import lock_day
from metrics.storage.merge import point_counts
from metrics.storage.shards import BlockId

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
    """A block (0 young, 1 merged) as people are told of it."""
    shard = f" of shard {number[0]}" if shards.count() > 1 else ""
    return f"{('young', 'merged')[source]} block {number[1]}{shard}"


def log_damage_once(what: str) -> None:
    """Log that something is damaged, once in each process."""
    if what not in _logged:
        _logged.add(what)
        log.error("%s is damaged: its checksum differs", what)


def reset_logged_damage() -> None:
    """Tell again: between tests, whose numbers may be alike."""
    _logged.clear()


def report_damaged_block(source: int, number: BlockId) -> str:
    """What a reader does who met a damaged block: tell, set it aside where that can be done now; returns its name."""
    name = block_name(source, number)
    log_damage_once(name)
    if source == 1:
        try:
            with connect() as connection, connection.transaction():
                place = connection.execute(_BLOCK_DAY, number).fetchone()
                if place is not None and lock_day(connection, *place):  # else a merge meets it
                    quarantine_block(connection, source, number)
        except psycopg.OperationalError as error:
            log.warning("%s is not set aside yet: %s", name, str(error).split("\n")[0])
    return name


def quarantine_block(connection: Connection, source: int, number: BlockId) -> None:
    """Move a block out of the way, in the caller's transaction; whoever calls holds the lock of its unit or shard."""
    log_damage_once(block_name(source, number))
    if source == 0:
        connection.execute(_QUARANTINE_COMMIT, number)
        connection.execute("DELETE FROM metrics_young WHERE shard = %s AND seq = %s", number)
    else:
        row = connection.execute(_QUARANTINE_MERGED, number).fetchone()
        if row is not None:  # how many points of which series are gone with it cannot be told
            point_counts.mark_for_rebuild(
                connection, number[0], row[0] * SERIES_PER_BUCKET // point_counts.SERIES_PER_RANGE
            )
        connection.execute("DELETE FROM metrics_block WHERE shard = %s AND id = %s", number)


def damaged_in_range(connection: Connection, wanted: dict[str, Any]) -> list[str]:
    """Names of what is set aside and may belong to an answer."""
    rows = connection.execute(_IN_RANGE, wanted)
    return [block_name(min(level, 1), (shard, number)) for level, shard, number in rows if shard in wanted["shards"]]


def damaged_of_series(connection: Connection, series: Sequence[int]) -> list[str]:
    """Names of what is set aside and may hold points of these series (ascending)."""
    rows = connection.execute(_OF_SERIES, {"series": series, "low": series[0], "high": series[-1]})
    return [block_name(min(level, 1), (shard, number)) for level, shard, number in rows]


def decode_commit_runs(
    connection: Connection, shard: int, commits: Iterable[tuple[int, bytes]]
) -> list[tuple[int, int, list[Columns]]]:
    """Commits in order as unbroken runs (first, last, parts); a damaged one is set aside and ends its run."""
    runs: list[tuple[int, int, list[Columns]]] = []
    broken = True
    for seq, payload in commits:
        try:
            parts = decode(payload)
        except DamagedPayload:
            quarantine_block(connection, 0, (shard, seq))
            broken = True
            continue
        if broken:
            runs.append((seq, seq, parts))
        else:
            first, _, before = runs[-1]
            runs[-1] = (first, seq, before + parts)
        broken = False
    return runs


def quarantined_seqs(connection: Connection, shard: int, bucket: int, day: int, length: int) -> list[int]:
    """The last `seq` of everything of a unit that is set aside; `length` is a day's, in µs."""
    given = (shard, bucket, day, (day + 1) * length, day * length)
    return [seq for (seq,) in connection.execute(_QUARANTINED_SEQS, given)]


def split_at_quarantined(rows: Iterable[_RowT], seq_to: int, fences: Sequence[int]) -> Iterator[list[_RowT]]:
    """Rows in order of `seq_to` (their column of that number), parted where something between them is set aside."""
    for _, some in groupby(rows, lambda row: bisect_left(fences, row[seq_to])):
        yield list(some)
