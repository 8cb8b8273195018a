"""The newest point of every series: among unmerged commits, and the newest merged points.

The newest merged points of a bucket are one payload, which merges keep up to date. If that payload is damaged, the
blocks of the bucket are read instead, day by day from the newest on, until every series is found.
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
from metrics.storage.format.layout import (
    MERGED,
    SERIES_PER_BUCKET,
    UNMERGED,
    bucket_of,
    day_of,
    merge_by_encoding,
    select_series,
)
from metrics.storage.format.layout import newest_points as newest_of
from metrics.storage.merge import damaged_blocks
from metrics.storage.read import unmerged
from metrics.storage.read.block_cache import IN_GROUPS, MAX_ATTEMPTS, BlockKey, BlocksChanged, read_blocks

# One round trip: unmerged commits, the series, the newest points of their buckets, and quarantined commits.
_FIND_LATEST = f"""
WITH requested AS MATERIALIZED (
    SELECT s.id, s.kind, d.device_id, s.metric_name FROM metrics_series s JOIN metrics_device d ON d.id = s.device_id
    {{where}}
)
SELECT 0, y.*, NULL::bytea, NULL::text, NULL::text FROM ({unmerged.UNMERGED_COMMITS}) y
UNION ALL SELECT 1, kind, id, NULL, NULL, NULL, NULL, NULL, device_id, metric_name FROM requested
UNION ALL SELECT 2, l.shard, l.bucket, NULL, NULL, NULL, NULL, l.payload, NULL, NULL
FROM (SELECT DISTINCT id / %(size)s AS bucket FROM requested) b
JOIN metrics_latest l ON l.bucket = b.bucket WHERE l.shard = ANY(%(shards)s)
UNION ALL SELECT 3, shard, number, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM metrics_damagedblock
WHERE level = 0 AND time_to >= %(start)s
"""  # noqa: S608 - constants, and conditions that bind
_COMMIT_ROW, _SERIES_ROW, _LATEST_ROW, _DAMAGED_ROW = range(4)
_BLOCKS_NEWEST_FIRST = """
SELECT 1, shard, id, seq_to, day FROM metrics_block
WHERE shard = %(shard)s AND bucket = %(bucket)s AND day >= %(first)s
  AND series_from <= %(high)s AND series_to >= %(low)s AND time_to >= %(start)s
UNION ALL SELECT 3, shard, number, seq_to, day FROM metrics_damagedblock
WHERE shard = %(shard)s AND bucket = %(bucket)s AND series_from <= %(high)s AND series_to >= %(low)s
  AND time_to >= %(start)s
ORDER BY 5 DESC, 4
"""
_SHARDS_OF = """
SELECT DISTINCT s.id / %(size)s %% %(count)s FROM metrics_series s JOIN metrics_device d ON d.id = s.device_id {where}
"""
_MAX_TIME = 2**62  # later than every point; for merged points, whose times are only known after decoding
_MIN_TIME = -(2**62)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A part in which the newest point of a series may be; none of its points is later than `time_to` (µs)."""

    time_to: int
    seq: int
    part: Columns


@dataclass(frozen=True, slots=True)
class NamedSeries:
    """A series with its device and metric."""

    id: int
    kind: Kind
    device_id: str
    metric_name: str


@dataclass(frozen=True, slots=True)
class LatestCandidates:
    """The requested series, the parts with their newest points (newest first), and the damaged blocks left out."""

    series: list[NamedSeries]
    candidates: list[Candidate]
    damaged: list[str]


def find_latest(
    devices: Sequence[str] | None, metrics: Sequence[str] | None, start: int, groups: Sequence[str] | None = None
) -> LatestCandidates:
    """Find the newest points of the series of these devices, metrics and groups (None: all).

    Points before `start` (µs) may be missing.
    """
    where: list[str] = []
    parameters: dict[str, Any] = {
        "start": start,
        "end": _MAX_TIME,
        "size": SERIES_PER_BUCKET,
    }
    for column, name, names in (("d.device_id", "devices", devices), ("s.metric_name", "metrics", metrics)):
        if names is not None:
            # PostgreSQL keeps the plan of an equality; that of a list it makes again each time.
            single = len(names) == 1
            where.append(f"{column} = %({name})s" if single else f"{column} = ANY(%({name})s)")
            parameters[name] = names[0] if single else list(names)
    if groups is not None:
        where.append(IN_GROUPS)
        parameters["groups"] = list(groups)
    condition = f"WHERE {' AND '.join(where)}" if where else ""
    statement = _FIND_LATEST.format(where=condition)
    for _ in range(MAX_ATTEMPTS):
        try:
            with read_connection() as connection:
                parameters["shards"] = _shards_to_read(connection, condition, parameters)
                return _collect_candidates(
                    connection, connection.execute(statement, parameters, binary=True).fetchall(), start
                )
        except BlocksChanged:
            continue
    raise RuntimeError("blocks were merged away faster than they could be read")


def _shards_to_read(connection: Connection, condition: str, parameters: dict[str, Any]) -> list[int]:
    """Return the shards of the requested series, in a round trip of its own only if there are several shards.

    The statement that finds the points can name them only if they are known before; a read of every shard would need
    every node of a cluster.
    """
    if shards.count() == 1:
        return list(shards.all_shards())
    rows = connection.execute(_SHARDS_OF.format(where=condition), parameters | {"count": shards.count()})
    return [shard for (shard,) in rows]


def _collect_candidates(connection: Connection, rows: list[tuple[Any, ...]], start: int) -> LatestCandidates:
    """Build the candidates from the rows of _FIND_LATEST. Raises BlocksChanged."""
    by_source: list[list[tuple[Any, ...]]] = [[], [], [], []]
    for source, *row in rows:
        by_source[source].append(tuple(row))
    series = [
        NamedSeries(number, Kind(kind), device, metric) for kind, number, *_, device, metric in by_source[_SERIES_ROW]
    ]
    if not series:
        return LatestCandidates([], [], [])
    requested_shards = {shards.shard_of(named.id) for named in series}
    damaged = [
        damaged_blocks.block_name(UNMERGED, (row[0], row[1]))
        for row in by_source[_DAMAGED_ROW]
        if row[0] in requested_shards
    ]
    groups = unmerged.join_groups(unmerged.CommitGroup(*row[:6]) for row in by_source[_COMMIT_ROW])
    candidates = [
        Candidate(group.time_to, seq, part)
        for seq, group, parts in unmerged.read_unmerged(connection, groups, damaged)
        for part in parts
    ]
    for shard, bucket, *_, payload, _, _ in by_source[_LATEST_ROW]:
        try:
            candidates += [Candidate(_MAX_TIME, 0, part) for part in decode(payload)]
        except DamagedPayload:
            damaged_blocks.log_damage_once(_bucket_label(bucket))
            ids = {named.id for named in series if bucket_of(named.id) == bucket}
            candidates += _read_newest_days(connection, (shard, bucket), ids, start, damaged)
    return LatestCandidates(
        series, sorted(candidates, key=lambda candidate: (candidate.time_to, candidate.seq), reverse=True), damaged
    )


def read_newest_merged(connection: Connection, series: Ints) -> Iterator[Columns]:
    """Yield the newest merged points of these series (ascending); those in damaged payloads are left out."""
    rows = connection.execute(
        "SELECT bucket, payload FROM metrics_latest WHERE shard = ANY(%s) AND bucket = ANY(%s)",
        (np.unique(shards.shards_of_series(series)).tolist(), np.unique(series // SERIES_PER_BUCKET).tolist()),
        binary=True,
    )
    for bucket, payload in rows.fetchall():
        try:
            parts = decode(payload)
        except DamagedPayload:
            damaged_blocks.log_damage_once(_bucket_label(bucket))
            continue
        yield from (kept for part in parts if len(kept := select_series(part, np.intersect1d(part.ids, series))))


def update_latest(connection: Connection, shard: int, points: Columns) -> None:
    """Update the newest merged point of every series; an older point changes nothing."""
    buckets = points.ids // SERIES_PER_BUCKET
    edges = [0, *(np.flatnonzero(np.diff(buckets)) + 1).tolist(), len(buckets)]
    parts = {int(buckets[low]): points.slice_series(low, high) for low, high in zip(edges[:-1], edges[1:], strict=True)}
    stored = _read_latest_for_update(connection, shard, list(parts))
    _store_latest(connection, shard, {bucket: [*stored.get(bucket, []), part] for bucket, part in parts.items()})


def restore_latest(connection: Connection, shard: int, bucket: int) -> None:
    """Update the newest points of a bucket from its blocks after a quarantined block was restored."""
    stored = _read_latest_for_update(connection, shard, [bucket]).get(bucket, [])
    _store_latest(connection, shard, {bucket: [*stored, *_latest_from_blocks(connection, shard, bucket)]})


def delete_latest(connection: Connection, shard: int, bucket: int, series: Ints) -> None:
    """Delete the newest points of these series."""
    stored = _read_latest_for_update(connection, shard, [bucket])
    if bucket not in stored:
        return
    kept = [
        part for columns in stored[bucket] if len(part := select_series(columns, np.setdiff1d(columns.ids, series)))
    ]
    if kept:
        _store_latest(connection, shard, {bucket: kept})
    else:
        connection.execute("DELETE FROM metrics_latest WHERE shard = %s AND bucket = %s", (shard, bucket))


def _read_latest_for_update(connection: Connection, shard: int, buckets: list[int]) -> dict[int, list[Columns]]:
    """Lock and read the stored newest points; from the blocks if a payload is damaged."""
    rows = connection.execute(
        "SELECT bucket, payload FROM metrics_latest WHERE shard = %s AND bucket = ANY(%s) ORDER BY bucket FOR UPDATE",
        (shard, buckets),
        binary=True,
    ).fetchall()
    stored = {}
    for bucket, payload in rows:
        try:
            stored[bucket] = decode(payload)
        except DamagedPayload:
            damaged_blocks.log_damage_once(_bucket_label(bucket))
            stored[bucket] = _latest_from_blocks(connection, shard, bucket)
    return stored


def _store_latest(connection: Connection, shard: int, parts: dict[int, list[Columns]]) -> None:
    """Store the newest of these points as those of their buckets; the later part wins at equal times."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO metrics_latest (shard, bucket, payload) VALUES (%s, %s, %s)"
            " ON CONFLICT (shard, bucket) DO UPDATE SET payload = EXCLUDED.payload",
            [
                (shard, bucket, encode([newest_of(columns) for columns in merge_by_encoding(columns_list)]))
                for bucket, columns_list in sorted(parts.items())
            ],
        )


def _latest_from_blocks(connection: Connection, shard: int, bucket: int) -> list[Columns]:
    """Return parts with the newest merged points of all series of a bucket, in order of their commits."""
    series = connection.execute(
        "SELECT id FROM metrics_series WHERE id >= %s AND id < %s",
        (bucket * SERIES_PER_BUCKET, (bucket + 1) * SERIES_PER_BUCKET),
    )
    candidates = _read_newest_days(connection, (shard, bucket), {number for (number,) in series}, _MIN_TIME, [])
    return [candidate.part for candidate in sorted(candidates, key=lambda candidate: candidate.seq)]


def _bucket_label(bucket: int) -> str:
    return f"latest points of bucket {bucket}"


def _read_newest_days(
    connection: Connection, shard_bucket: tuple[int, int], ids: set[int], start: int, damaged: list[str]
) -> Iterator[Candidate]:
    """Yield the merged points of these series of a (shard, bucket), from the newest day until each series is found."""
    parameters = {
        "low": min(ids, default=0),
        "high": max(ids, default=_MAX_TIME),
        "start": start,
        "first": day_of(start),
    }
    rows = connection.execute(
        _BLOCKS_NEWEST_FIRST, parameters | {"shard": shard_bucket[0], "bucket": shard_bucket[1]}
    ).fetchall()
    missing = set(ids)
    for _, day_rows in groupby(rows, itemgetter(4)):
        seqs: dict[BlockKey, int] = {}
        for source, shard, number, seq_to, _ in day_rows:
            if source == MERGED:
                seqs[MERGED, (shard, number)] = seq_to
            else:
                damaged.append(damaged_blocks.block_name(MERGED, (shard, number)))
        for key, parts in read_blocks(connection, list(seqs), damaged).items():
            for part in parts:
                yield Candidate(_MAX_TIME, seqs[key], part)
                missing -= set(part.ids.tolist())
        if not missing:
            return
