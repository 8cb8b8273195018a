"""Finding the newest point of every series: among commits that are not merged yet, and the newest merged ones.

The newest merged points of a bucket are one payload, which merges keep. Where that is damaged the bucket's blocks
tell the same, day by day from the youngest on, until every series is found.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np

from metrics.storage import shards
from metrics.storage.connection import Connection, reading
from metrics.storage.format.codec import Columns, DamagedPayload, Ints, Kind, decode, encode
from metrics.storage.format.layout import BUCKET, bucket_of, by_encoding, day_of, of_series
from metrics.storage.format.layout import newest as newest_of
from metrics.storage.merge import damaged_blocks
from metrics.storage.read import unmerged
from metrics.storage.read.block_cache import IN_GROUPS, TRIES, Gone, Key, blocks

# One round trip: the commits that are not merged yet, which series there are, their buckets' newest points, and the
# commits that are set aside.
_NEWEST = f"""
WITH wanted AS MATERIALIZED (
    SELECT s.id, s.kind, d.device_id, s.metric_name FROM metrics_series s JOIN metrics_device d ON d.id = s.device_id
    {{where}}
)
SELECT 0, y.*, NULL::bytea, NULL::text, NULL::text FROM ({unmerged.WAITING}) y
UNION ALL SELECT 1, kind, id, NULL, NULL, NULL, NULL, NULL, device_id, metric_name FROM wanted
UNION ALL SELECT 2, l.shard, l.bucket, NULL, NULL, NULL, NULL, l.payload, NULL, NULL
FROM (SELECT DISTINCT id / %(size)s AS bucket FROM wanted) w
JOIN metrics_latest l ON l.bucket = w.bucket WHERE l.shard = ANY(%(shards)s)
UNION ALL SELECT 3, shard, number, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM metrics_damagedblock
WHERE level = 0 AND time_to >= %(start)s
"""  # noqa: S608 - constants, and conditions that bind
_YOUNG, _SERIES, _LATEST, _SET_ASIDE = range(4)
_DAYS = """
SELECT 1, shard, id, seq_to, day FROM metrics_block
WHERE shard = %(shard)s AND bucket = %(bucket)s AND day >= %(first)s
  AND series_from <= %(high)s AND series_to >= %(low)s AND time_to >= %(start)s
UNION ALL SELECT 3, shard, number, seq_to, day FROM metrics_damagedblock
WHERE shard = %(shard)s AND bucket = %(bucket)s AND series_from <= %(high)s AND series_to >= %(low)s
  AND time_to >= %(start)s
ORDER BY 5 DESC, 4
"""
_LAST = 2**62  # later than every time: merged points have no bound of their own
_EVER = -(2**62)


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


@dataclass(frozen=True, slots=True)
class Found:
    """The series asked for, the parts among which their newest points are, youngest first, and what was left out."""

    series: list[Named]
    candidates: list[Candidate]
    damaged: list[str]


def newest(
    devices: Sequence[str] | None, metrics: Sequence[str] | None, start: int, groups: Sequence[str] | None = None
) -> Found:
    """For the series of these devices, metrics, groups (None: of all); points before `start` (µs) may not be there."""
    where: list[str] = []
    wanted: dict[str, Any] = {"start": start, "end": _LAST, "size": BUCKET, "shards": list(shards.every())}
    for column, name, names in (("d.device_id", "devices", devices), ("s.metric_name", "metrics", metrics)):
        if names is not None:
            # Of one PostgreSQL knows what it costs and keeps its plan; that of a list it makes anew each time.
            one = len(names) == 1
            where.append(f"{column} = %({name})s" if one else f"{column} = ANY(%({name})s)")
            wanted[name] = names[0] if one else list(names)
    if groups is not None:
        where.append(IN_GROUPS)
        wanted["groups"] = list(groups)
    statement = _NEWEST.format(where=f"WHERE {' AND '.join(where)}" if where else "")
    for _ in range(TRIES):
        try:
            with reading() as connection:
                return _among(connection, connection.execute(statement, wanted, binary=True).fetchall(), start)
        except Gone:
            continue
    raise RuntimeError("blocks were merged away faster than they could be read")


def _among(connection: Connection, rows: list[tuple[Any, ...]], start: int) -> Found:
    """What the rows of _NEWEST amount to. Raises Gone."""
    by_source: list[list[tuple[Any, ...]]] = [[], [], [], []]
    for source, *row in rows:
        by_source[source].append(tuple(row))
    series = [Named(number, Kind(kind), device, metric) for kind, number, *_, device, metric in by_source[_SERIES]]
    if not series:
        return Found([], [], [])
    mine = {shards.shard_of(one.id) for one in series}
    damaged = [damaged_blocks.named(0, (row[0], row[1])) for row in by_source[_SET_ASIDE] if row[0] in mine]
    waiting = unmerged.stretches(unmerged.Stretch(*row[:6]) for row in by_source[_YOUNG] if row[0] in mine)
    found = [
        Candidate(stretch.time_to, seq, part)
        for seq, stretch, parts in unmerged.parts(connection, waiting, damaged)
        for part in parts
    ]
    for shard, bucket, *_, payload, _, _ in by_source[_LATEST]:
        try:
            found += [Candidate(_LAST, 0, part) for part in decode(payload)]
        except DamagedPayload:
            damaged_blocks.tell_once(_named(bucket))
            ids = {one.id for one in series if bucket_of(one.id) == bucket}
            found += _of_days(connection, (shard, bucket), ids, start, damaged)
    return Found(series, sorted(found, key=lambda one: (one.time_to, one.seq), reverse=True), damaged)


def move(connection: Connection, shard: int, points: Columns) -> None:
    """Bring the newest merged point of every series up to date; an older point moves nothing."""
    buckets = points.ids // BUCKET
    edges = [0, *(np.flatnonzero(np.diff(buckets)) + 1).tolist(), len(buckets)]
    parts = {int(buckets[low]): points.part(low, high) for low, high in zip(edges[:-1], edges[1:], strict=True)}
    held = _held(connection, shard, list(parts))
    _keep(connection, shard, {bucket: [*held.get(bucket, []), part] for bucket, part in parts.items()})


def put_back(connection: Connection, shard: int, bucket: int) -> None:
    """Give the points of a block that came back their place among the newest: only blocks know which came later."""
    held = _held(connection, shard, [bucket]).get(bucket, [])
    _keep(connection, shard, {bucket: [*held, *_in_blocks(connection, shard, bucket)]})


def let_go(connection: Connection, shard: int, bucket: int, series: Ints) -> None:
    """Forget the newest points of series."""
    held = _held(connection, shard, [bucket])
    if bucket not in held:
        return
    left = [part for one in held[bucket] if len(part := of_series(one, np.setdiff1d(one.ids, series)))]
    if left:
        _keep(connection, shard, {bucket: left})
    else:
        connection.execute("DELETE FROM metrics_latest WHERE shard = %s AND bucket = %s", (shard, bucket))


def _held(connection: Connection, shard: int, buckets: list[int]) -> dict[int, list[Columns]]:
    """What is known as newest; out of the blocks where a payload is damaged."""
    rows = connection.execute(
        "SELECT bucket, payload FROM metrics_latest WHERE shard = %s AND bucket = ANY(%s) ORDER BY bucket FOR UPDATE",
        (shard, buckets),
        binary=True,
    ).fetchall()
    held = {}
    for bucket, payload in rows:
        try:
            held[bucket] = decode(payload)
        except DamagedPayload:
            damaged_blocks.tell_once(_named(bucket))
            held[bucket] = _in_blocks(connection, shard, bucket)
    return held


def _keep(connection: Connection, shard: int, parts: dict[int, list[Columns]]) -> None:
    """Store the newest of these points as those of their buckets; of two at one time that of the later part."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO metrics_latest (shard, bucket, payload) VALUES (%s, %s, %s)"
            " ON CONFLICT (shard, bucket) DO UPDATE SET payload = EXCLUDED.payload",
            [
                (shard, bucket, encode([newest_of(one) for one in by_encoding(some)]))
                for bucket, some in sorted(parts.items())
            ],
        )


def _in_blocks(connection: Connection, shard: int, bucket: int) -> list[Columns]:
    """Parts in which the newest merged points of all series of a bucket are, oldest write first."""
    known = connection.execute(
        "SELECT id FROM metrics_series WHERE id >= %s AND id < %s", (bucket * BUCKET, (bucket + 1) * BUCKET)
    )
    found = _of_days(connection, (shard, bucket), {number for (number,) in known}, _EVER, [])
    return [one.part for one in sorted(found, key=lambda one: one.seq)]


def _named(bucket: int) -> str:
    return f"what is newest in bucket {bucket}"


def _of_days(
    connection: Connection, place: tuple[int, int], ids: set[int], start: int, damaged: list[str]
) -> Iterator[Candidate]:
    """The merged points of these series of a (shard, bucket), from the youngest day to the one that has the last."""
    wanted = {"low": min(ids, default=0), "high": max(ids, default=_LAST), "start": start, "first": day_of(start)}
    found = connection.execute(_DAYS, wanted | {"shard": place[0], "bucket": place[1]}).fetchall()
    missing = set(ids)
    for _, some in groupby(found, itemgetter(4)):
        ages: dict[Key, int] = {}
        for source, shard, number, seq_to, _ in some:
            if source == 1:
                ages[1, (shard, number)] = seq_to
            else:
                damaged.append(damaged_blocks.named(1, (shard, number)))
        for key, parts in blocks(connection, list(ages), damaged).items():
            for part in parts:
                yield Candidate(_LAST, ages[key], part)
                missing -= set(part.ids.tolist())
        if not missing:
            return
