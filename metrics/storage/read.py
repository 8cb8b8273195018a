"""Reading points back: every block that overlaps, young and merged, in one snapshot.

A block never changes, so each process keeps decoded ones by their number. Where two blocks hold the same series and
time the later one (by `seq`) wins, wherever it lives; nothing else needs to be known about merging.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metrics.storage.blocks import BUCKET, bucket_of, day_of
from metrics.storage.codec import Columns, Ints, Kind, decode
from metrics.storage.connection import Connection, reading

CACHE_BYTES = 32 * 1024 * 1024
MOST_WHOLE = 16  # blocks of one read that are decoded whole, and remembered
TRIES = 5  # a merge may delete a block between finding and fetching it

_OVERLAPPING = """
SELECT 0, y.seq, y.seq FROM metrics_young y JOIN metrics_merged m USING (shard)
WHERE y.seq > m.seq AND y.time_to >= %(start)s AND y.time_from < %(end)s
UNION ALL
SELECT 1, b.id, b.seq_to FROM metrics_block b
WHERE b.shard = 0 AND b.bucket = ANY(%(buckets)s) AND b.day BETWEEN %(first)s AND %(last)s
  AND b.series_from <= %(high)s AND b.series_to >= %(low)s AND b.time_to >= %(start)s AND b.time_from < %(end)s
ORDER BY 3
"""
# One round trip: which series there are, their buckets' newest points, and the commits that are not merged yet.
_NEWEST = """
WITH wanted AS MATERIALIZED (
    SELECT s.id, s.kind, d.device_id, s.metric_name FROM metrics_series s JOIN metrics_device d ON d.id = s.device_id
    {where}
)
SELECT 0, y.seq, y.time_to, NULL::bytea, NULL::text, NULL::text FROM metrics_young y JOIN metrics_merged m USING (shard)
WHERE y.seq > m.seq AND y.time_to >= %(start)s
UNION ALL SELECT 1, id, kind, NULL, device_id, metric_name FROM wanted
UNION ALL SELECT 2, bucket, 0, payload, NULL, NULL FROM metrics_latest
WHERE shard = 0 AND bucket IN (SELECT id / %(size)s FROM wanted)
"""
FETCH = (
    "SELECT seq, payload FROM metrics_young WHERE shard = 0 AND seq = ANY(%s)",
    "SELECT id, payload FROM metrics_block WHERE shard = 0 AND id = ANY(%s)",
)

Key = tuple[int, int]  # (0 young or 1 merged, its number)


_LAST = 2**62  # later than every time: merged points have no bound of their own


class _Gone(Exception):
    """A block was merged away between finding and fetching it."""


class _Decoded:
    """Decoded blocks, the least used forgotten first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._blocks: OrderedDict[Key, tuple[list[Columns], int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key) -> list[Columns] | None:
        with self._lock:
            found = self._blocks.get(key)
            if found is None:
                return None
            self._blocks.move_to_end(key)
            return found[0]

    def put(self, key: Key, parts: list[Columns]) -> None:
        size = sum(32 * len(part) + 1000 if part.is_numbers else 200 * len(part) for part in parts)
        with self._lock:
            if key in self._blocks:
                return
            self._blocks[key] = (parts, size)
            self._size += size
            while self._size > self._limit and len(self._blocks) > 1:
                self._size -= self._blocks.popitem(last=False)[1][1]

    def clear(self) -> None:
        with self._lock:
            self._blocks.clear()
            self._size = 0


decoded = _Decoded(CACHE_BYTES)


def forget() -> None:
    """Drop decoded blocks: between tests, whose numbers may be alike."""
    decoded.clear()


def overlapping(series: Sequence[int], start: int, end: int) -> list[Columns]:
    """Every part that may hold points of these series from `start` to before `end` (µs), oldest write first."""
    wanted = {
        "start": start,
        "end": end,
        "buckets": sorted({bucket_of(one) for one in series}),
        "first": day_of(start),
        "last": day_of(end - 1),
        "low": min(series),
        "high": max(series),
    }
    for _ in range(TRIES):
        try:
            with reading() as connection:
                found = [(source, number) for source, number, _ in connection.execute(_OVERLAPPING, wanted)]
                # Of so many blocks nobody would find the other series later on: they would push each other out.
                alone = np.array(sorted(series), np.int64) if len(found) > MOST_WHOLE else None
                return [part for parts in _held(connection, found, alone).values() for part in parts]
        except _Gone:
            continue
    raise RuntimeError("blocks were merged away faster than they could be read")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A part in which the newest point of a series may be: none of its points is younger than `time_to` (µs)."""

    time_to: int
    seq: int
    part: Columns


@dataclass(frozen=True, slots=True)
class Named:
    """A series and what it is called."""

    id: int
    kind: Kind
    device_id: str
    metric_name: str


def newest(
    devices: Sequence[str] | None, metrics: Sequence[str] | None, start: int
) -> tuple[list[Named], list[Candidate]]:
    """The series of these devices and metrics (None: of all), and the parts among which their newest points are.

    Candidates come youngest first. Only points from `start` on are sure to be there.
    """
    given = (("d.device_id = ANY(%(devices)s)", devices), ("s.metric_name = ANY(%(metrics)s)", metrics))
    where = [condition for condition, names in given if names is not None]
    statement = _NEWEST.format(where=f"WHERE {' AND '.join(where)}" if where else "")
    wanted = {
        "devices": None if devices is None else list(devices),
        "metrics": None if metrics is None else list(metrics),
        "start": start,
        "size": BUCKET,
    }
    for _ in range(TRIES):
        try:
            with reading() as connection:
                rows = connection.execute(statement, wanted).fetchall()
                series = [Named(row[1], Kind(row[2]), row[4], row[5]) for row in rows if row[0] == 1]
                if not series:
                    return [], []
                young = {row[1]: row[2] for row in rows if row[0] == 0}
                held = _held(connection, [(0, seq) for seq in young])
                found = [Candidate(young[seq], seq, part) for (_, seq), parts in held.items() for part in parts]
                found += [Candidate(_LAST, 0, part) for row in rows if row[0] == 2 for part in decode(row[3])]
                return series, sorted(found, key=lambda one: (one.time_to, one.seq), reverse=True)
        except _Gone:
            continue
    raise RuntimeError("blocks were merged away faster than they could be read")


def remember(seq: int, parts: list[Columns]) -> None:
    """Keep a commit of this process decoded, since the next read wants it."""
    decoded.put((0, seq), parts)


def young_after(connection: Connection, seq: int, most: int = 200) -> list[tuple[int, list[Columns]]]:
    """The commits after `seq`, in order, with their parts: what a follower reads."""
    rows = connection.execute(
        "SELECT seq FROM metrics_young WHERE shard = 0 AND seq > %s ORDER BY seq LIMIT %s", (seq, most)
    ).fetchall()
    _fetch(connection, 0, [number for (number,) in rows if decoded.get((0, number)) is None])
    found = []
    for (number,) in rows:
        parts = decoded.get((0, number))
        if parts is not None:
            found.append((number, parts))
    return found


def head(connection: Connection) -> int:
    """The last commit's number."""
    row = connection.execute("SELECT seq FROM metrics_head WHERE shard = 0").fetchone()
    return row[0] if row else 0


def _held(connection: Connection, keys: list[Key], alone: Ints | None = None) -> dict[Key, list[Columns]]:
    """Decoded blocks by key, in the order of the keys; `alone` are the series that are wanted of them. Raises _Gone."""
    held: dict[Key, list[Columns]] = {}
    for key in keys:
        if (parts := decoded.get(key)) is not None:
            held[key] = parts
    for source in (0, 1):
        missing = [number for where, number in keys if where == source and (where, number) not in held]
        held |= {(source, number): parts for number, parts in _fetch(connection, source, missing, alone).items()}
    if len(held) < len(keys):
        raise _Gone
    return {key: held[key] for key in keys}


def _fetch(
    connection: Connection, source: int, numbers: list[int], alone: Ints | None = None
) -> dict[int, list[Columns]]:
    if not numbers:
        return {}
    found: dict[int, list[Columns]] = {}
    row: tuple[Any, ...]
    for row in connection.execute(FETCH[source], (numbers,), binary=True):
        found[row[0]] = decode(row[1], alone)
        if alone is None:
            decoded.put((source, row[0]), found[row[0]])
    return found
