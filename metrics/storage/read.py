"""Reading points back: every block that overlaps, young and merged, in one snapshot.

A block never changes, so each process keeps decoded ones by their number. Where two blocks hold the same series and
time the later one (by `seq`) wins, wherever it lives; nothing else needs to be known about merging.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from metrics.storage import shards
from metrics.storage.blocks import BUCKET, bucket_of, day_of
from metrics.storage.codec import Columns, Kind, decode
from metrics.storage.connection import Connection, reading

CACHE_BYTES = 32 * 1024 * 1024
TRIES = 5  # a merge may delete a block between finding and fetching it

# Young blocks of other shards are left out afterwards: asked for here, PostgreSQL would plan anew each time.
_OVERLAPPING = """
SELECT 0, y.shard, y.seq, y.seq FROM metrics_young y JOIN metrics_merged m USING (shard)
WHERE y.seq > m.seq AND y.time_to >= %(start)s AND y.time_from < %(end)s
UNION ALL
SELECT 1, b.shard, b.id, b.seq_to FROM metrics_block b
WHERE b.shard = ANY(%(shards)s) AND b.bucket = ANY(%(buckets)s) AND b.day BETWEEN %(first)s AND %(last)s
  AND b.series_from <= %(high)s AND b.series_to >= %(low)s AND b.time_to >= %(start)s AND b.time_from < %(end)s
ORDER BY 4
"""
# One round trip: which series there are, their buckets' newest points, and the commits that are not merged yet.
_NEWEST = """
WITH wanted AS MATERIALIZED (
    SELECT s.id, s.kind, d.device_id, s.metric_name FROM metrics_series s JOIN metrics_device d ON d.id = s.device_id
    {where}
)
SELECT 0, y.seq, y.time_to, y.shard, NULL::bytea, NULL::text, NULL::text
FROM metrics_young y JOIN metrics_merged m USING (shard)
WHERE y.seq > m.seq AND y.time_to >= %(start)s
UNION ALL SELECT 1, id, kind, NULL, NULL, device_id, metric_name FROM wanted
UNION ALL SELECT 2, bucket, 0, shard, payload, NULL, NULL FROM metrics_latest
WHERE shard = ANY(%(shards)s) AND bucket IN (SELECT id / %(size)s FROM wanted)
"""
_FETCH = (
    "SELECT seq, payload FROM metrics_young WHERE shard = %s AND seq = ANY(%s)",
    "SELECT id, payload FROM metrics_block WHERE shard = %s AND id = ANY(%s)",
)

Number = tuple[int, int]  # shard, and the commit's or the merged block's number in it
Key = tuple[int, Number]  # 0 young or 1 merged
Cursor = dict[int, int]  # shard: the last commit that was read


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
    mine = {shards.shard_of(one) for one in series}
    wanted = {
        "start": start,
        "end": end,
        "buckets": sorted({bucket_of(one) for one in series}),
        "shards": sorted(mine),
        "first": day_of(start),
        "last": day_of(end - 1),
        "low": min(series),
        "high": max(series),
    }
    for _ in range(TRIES):
        try:
            with reading() as connection:
                rows = connection.execute(_OVERLAPPING, wanted)
                found = [(row[0], (row[1], row[2])) for row in rows if row[1] in mine]
                return _parts(connection, found)
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
        "shards": list(shards.every()),
    }
    for _ in range(TRIES):
        try:
            with reading() as connection:
                rows = connection.execute(statement, wanted).fetchall()
                series = [Named(row[1], Kind(row[2]), row[5], row[6]) for row in rows if row[0] == 1]
                if not series:
                    return [], []
                mine = {shards.shard_of(one.id) for one in series}
                young = {(row[3], row[1]): row[2] for row in rows if row[0] == 0 and row[3] in mine}
                held = _held(connection, [(0, number) for number in young])
                found = [
                    Candidate(young[number], number[1], part) for (_, number), parts in held.items() for part in parts
                ]
                found += [Candidate(_LAST, 0, part) for row in rows if row[0] == 2 for part in decode(row[4])]
                return series, sorted(found, key=lambda one: (one.time_to, one.seq), reverse=True)
        except _Gone:
            continue
    raise RuntimeError("blocks were merged away faster than they could be read")


def remember(number: Number, parts: list[Columns]) -> None:
    """Keep a commit of this process decoded, since the next read wants it."""
    decoded.put((0, number), parts)


def young_after(connection: Connection, cursor: Cursor, most: int = 200) -> list[tuple[Number, list[Columns]]]:
    """The commits after a cursor with their parts, in order within each shard: what a follower reads.

    Shards that the cursor does not name are left out; from each at most `most` commits.
    """
    numbers: list[Number] = []
    for shard, seq in sorted(cursor.items()):
        rows = connection.execute(
            "SELECT shard, seq FROM metrics_young WHERE shard = %s AND seq > %s ORDER BY seq LIMIT %s",
            (shard, seq, most),
        )
        numbers += rows.fetchall()
    held = {number: parts for number in numbers if (parts := decoded.get((0, number))) is not None}
    held |= _fetch(connection, 0, [number for number in numbers if number not in held])
    return [(number, held[number]) for number in numbers if number in held]


def named(source: int, number: Number) -> str:
    """A block as people are told of it."""
    shard = f" of shard {number[0]}" if shards.count() > 1 else ""
    return f"{('young', 'merged')[source]} block {number[1]}{shard}"


def heads(connection: Connection) -> Cursor:
    """The last commit's number of every shard."""
    return dict(connection.execute("SELECT shard, seq FROM metrics_head").fetchall())


def payloads(connection: Connection, source: int, numbers: Iterable[Number]) -> Iterator[tuple[Number, bytes]]:
    """What is in these blocks, those of them that are still there, a statement for each shard."""
    by_shard: dict[int, list[int]] = {}
    for shard, number in numbers:
        by_shard.setdefault(shard, []).append(number)
    for shard, some in by_shard.items():
        for number, payload in connection.execute(_FETCH[source], (shard, some), binary=True):
            yield (shard, number), payload


def _parts(connection: Connection, keys: list[Key]) -> list[Columns]:
    return [part for parts in _held(connection, keys).values() for part in parts]


def _held(connection: Connection, keys: list[Key]) -> dict[Key, list[Columns]]:
    """Decoded blocks by key, in the order of the keys. Raises _Gone."""
    held: dict[Key, list[Columns]] = {}
    for key in keys:
        if (parts := decoded.get(key)) is not None:
            held[key] = parts
    for source in (0, 1):
        missing = [number for where, number in keys if where == source and (where, number) not in held]
        held |= {(source, number): parts for number, parts in _fetch(connection, source, missing).items()}
    if len(held) < len(keys):
        raise _Gone
    return {key: held[key] for key in keys}


def _fetch(connection: Connection, source: int, numbers: list[Number]) -> dict[Number, list[Columns]]:
    found: dict[Number, list[Columns]] = {}
    for number, payload in payloads(connection, source, numbers):
        found[number] = decode(payload)
        decoded.put((source, number), found[number])
    return found
