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
from metrics.storage.connection import Connection, read_connection
from metrics.storage.format.codec import Columns, DamagedPayload, Ints, Kind, decode, encode
from metrics.storage.format.layout import SERIES_PER_BUCKET, bucket_of, day_of, merge_by_encoding, select_series
from metrics.storage.format.layout import newest_points as newest_of
from metrics.storage.merge import damaged_blocks
from metrics.storage.read import unmerged
from metrics.storage.read.block_cache import IN_GROUPS, MAX_ATTEMPTS, BlockKey, BlocksChanged, read_blocks

# One round trip: the commits that are not merged yet, which series there are, their buckets' newest points, and the
# commits that are set aside.
_FIND_LATEST = f"""
WITH wanted AS MATERIALIZED (
    SELECT s.id, s.kind, d.device_id, s.metric_name FROM metrics_series s JOIN metrics_device d ON d.id = s.device_id
    {{where}}
)
SELECT 0, y.*, NULL::bytea, NULL::text, NULL::text FROM ({unmerged.UNMERGED_COMMITS}) y
UNION ALL SELECT 1, kind, id, NULL, NULL, NULL, NULL, NULL, device_id, metric_name FROM wanted
UNION ALL SELECT 2, l.shard, l.bucket, NULL, NULL, NULL, NULL, l.payload, NULL, NULL
FROM (SELECT DISTINCT id / %(size)s AS bucket FROM wanted) w
JOIN metrics_latest l ON l.bucket = w.bucket WHERE l.shard = ANY(%(shards)s)
UNION ALL SELECT 3, shard, number, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM metrics_damagedblock
WHERE level = 0 AND time_to >= %(start)s
"""  # noqa: S608 - constants, and conditions that bind
_UNMERGED, _SERIES, _LATEST, _DAMAGED = range(4)
_BLOCKS_NEWEST_FIRST = """
SELECT 1, shard, id, seq_to, day FROM metrics_block
WHERE shard = %(shard)s AND bucket = %(bucket)s AND day >= %(first)s
  AND series_from <= %(high)s AND series_to >= %(low)s AND time_to >= %(start)s
UNION ALL SELECT 3, shard, number, seq_to, day FROM metrics_damagedblock
WHERE shard = %(shard)s AND bucket = %(bucket)s AND series_from <= %(high)s AND series_to >= %(low)s
  AND time_to >= %(start)s
ORDER BY 5 DESC, 4
"""
_MAX_TIME = 2**62  # later than every time: merged points have no bound of their own
_MIN_TIME = -(2**62)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A part in which the newest point of a series may be: none of its points is younger than `time_to` (µs)."""

    time_to: int
    seq: int
    part: Columns


@dataclass(frozen=True, slots=True)
class NamedSeries:
    """A series and what it is called."""

    id: int
    kind: Kind
    device_id: str
    metric_name: str


@dataclass(frozen=True, slots=True)
class LatestCandidates:
    """The series asked for, the parts among which their newest points are, youngest first, and what was left out."""

    series: list[NamedSeries]
    candidates: list[Candidate]
    damaged: list[str]


def find_latest(
    devices: Sequence[str] | None, metrics: Sequence[str] | None, start: int, groups: Sequence[str] | None = None
) -> LatestCandidates:
    """For the series of these devices, metrics, groups (None: of all); points before `start` (µs) may not be there."""
    where: list[str] = []
    wanted: dict[str, Any] = {
        "start": start,
        "end": _MAX_TIME,
        "size": SERIES_PER_BUCKET,
        "shards": list(shards.all_shards()),
    }
    for column, name, names in (("d.device_id", "devices", devices), ("s.metric_name", "metrics", metrics)):
        if names is not None:
            # Of one PostgreSQL knows what it costs and keeps its plan; that of a list it makes anew each time.
            one = len(names) == 1
            where.append(f"{column} = %({name})s" if one else f"{column} = ANY(%({name})s)")
            wanted[name] = names[0] if one else list(names)
    if groups is not None:
        where.append(IN_GROUPS)
        wanted["groups"] = list(groups)
    statement = _FIND_LATEST.format(where=f"WHERE {' AND '.join(where)}" if where else "")
    for _ in range(MAX_ATTEMPTS):
        try:
            with read_connection() as connection:
                return _collect_candidates(
                    connection, connection.execute(statement, wanted, binary=True).fetchall(), start
                )
        except BlocksChanged:
            continue
    raise RuntimeError("blocks were merged away faster than they could be read")


def _collect_candidates(connection: Connection, rows: list[tuple[Any, ...]], start: int) -> LatestCandidates:
    """What the rows of _NEWEST amount to. Raises Gone."""
    by_source: list[list[tuple[Any, ...]]] = [[], [], [], []]
    for source, *row in rows:
        by_source[source].append(tuple(row))
    series = [
        NamedSeries(number, Kind(kind), device, metric) for kind, number, *_, device, metric in by_source[_SERIES]
    ]
    if not series:
        return LatestCandidates([], [], [])
    mine = {shards.shard_of(one.id) for one in series}
    damaged = [damaged_blocks.block_name(0, (row[0], row[1])) for row in by_source[_DAMAGED] if row[0] in mine]
    waiting = unmerged.join_groups(unmerged.CommitGroup(*row[:6]) for row in by_source[_UNMERGED] if row[0] in mine)
    found = [
        Candidate(stretch.time_to, seq, part)
        for seq, stretch, parts in unmerged.read_unmerged(connection, waiting, damaged)
        for part in parts
    ]
    for shard, bucket, *_, payload, _, _ in by_source[_LATEST]:
        try:
            found += [Candidate(_MAX_TIME, 0, part) for part in decode(payload)]
        except DamagedPayload:
            damaged_blocks.log_damage_once(_bucket_label(bucket))
            ids = {one.id for one in series if bucket_of(one.id) == bucket}
            found += _read_newest_days(connection, (shard, bucket), ids, start, damaged)
    return LatestCandidates(series, sorted(found, key=lambda one: (one.time_to, one.seq), reverse=True), damaged)


def update_latest(connection: Connection, shard: int, points: Columns) -> None:
    """Bring the newest merged point of every series up to date; an older point moves nothing."""
    buckets = points.ids // SERIES_PER_BUCKET
    edges = [0, *(np.flatnonzero(np.diff(buckets)) + 1).tolist(), len(buckets)]
    parts = {int(buckets[low]): points.slice_series(low, high) for low, high in zip(edges[:-1], edges[1:], strict=True)}
    held = _read_latest_for_update(connection, shard, list(parts))
    _store_latest(connection, shard, {bucket: [*held.get(bucket, []), part] for bucket, part in parts.items()})


def restore_latest(connection: Connection, shard: int, bucket: int) -> None:
    """Give the points of a block that came back their place among the newest: only blocks know which came later."""
    held = _read_latest_for_update(connection, shard, [bucket]).get(bucket, [])
    _store_latest(connection, shard, {bucket: [*held, *_latest_from_blocks(connection, shard, bucket)]})


def delete_latest(connection: Connection, shard: int, bucket: int, series: Ints) -> None:
    """Forget the newest points of series."""
    held = _read_latest_for_update(connection, shard, [bucket])
    if bucket not in held:
        return
    left = [part for one in held[bucket] if len(part := select_series(one, np.setdiff1d(one.ids, series)))]
    if left:
        _store_latest(connection, shard, {bucket: left})
    else:
        connection.execute("DELETE FROM metrics_latest WHERE shard = %s AND bucket = %s", (shard, bucket))


def _read_latest_for_update(connection: Connection, shard: int, buckets: list[int]) -> dict[int, list[Columns]]:
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
            damaged_blocks.log_damage_once(_bucket_label(bucket))
            held[bucket] = _latest_from_blocks(connection, shard, bucket)
    return held


def _store_latest(connection: Connection, shard: int, parts: dict[int, list[Columns]]) -> None:
    """Store the newest of these points as those of their buckets; of two at one time that of the later part."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO metrics_latest (shard, bucket, payload) VALUES (%s, %s, %s)"
            " ON CONFLICT (shard, bucket) DO UPDATE SET payload = EXCLUDED.payload",
            [
                (shard, bucket, encode([newest_of(one) for one in merge_by_encoding(some)]))
                for bucket, some in sorted(parts.items())
            ],
        )


def _latest_from_blocks(connection: Connection, shard: int, bucket: int) -> list[Columns]:
    """Parts in which the newest merged points of all series of a bucket are, oldest write first."""
    known = connection.execute(
        "SELECT id FROM metrics_series WHERE id >= %s AND id < %s",
        (bucket * SERIES_PER_BUCKET, (bucket + 1) * SERIES_PER_BUCKET),
    )
    found = _read_newest_days(connection, (shard, bucket), {number for (number,) in known}, _MIN_TIME, [])
    return [one.part for one in sorted(found, key=lambda one: one.seq)]


def _bucket_label(bucket: int) -> str:
    return f"what is newest in bucket {bucket}"


def _read_newest_days(
    connection: Connection, place: tuple[int, int], ids: set[int], start: int, damaged: list[str]
) -> Iterator[Candidate]:
    """The merged points of these series of a (shard, bucket), from the youngest day to the one that has the last."""
    wanted = {"low": min(ids, default=0), "high": max(ids, default=_MAX_TIME), "start": start, "first": day_of(start)}
    found = connection.execute(_BLOCKS_NEWEST_FIRST, wanted | {"shard": place[0], "bucket": place[1]}).fetchall()
    missing = set(ids)
    for _, some in groupby(found, itemgetter(4)):
        ages: dict[BlockKey, int] = {}
        for source, shard, number, seq_to, _ in some:
            if source == 1:
                ages[1, (shard, number)] = seq_to
            else:
                damaged.append(damaged_blocks.block_name(1, (shard, number)))
        for key, parts in read_blocks(connection, list(ages), damaged).items():
            for part in parts:
                yield Candidate(_MAX_TIME, ages[key], part)
                missing -= set(part.ids.tolist())
        if not missing:
            return
