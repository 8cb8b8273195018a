"""Values for a client that starts or resumes: the newest one per series, or every missed point.

A missed point is in a commit, if its commit still exists, or in a merged block that was made of later commits too. A
block that was made of commits before and after the client's position gives all its points, since nothing tells them
apart: the client merges points by time with those that it has.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

import numpy as np

from metrics.query import latest
from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns, Ints, concatenate
from metrics.storage.format.layout import MERGED, UNMERGED, bucket_of, drop_removed, select_series
from metrics.storage.read.block_cache import BlockKey, CommitCursor, read_blocks
from metrics.storage.read.commit_stream import read_commit_headers
from metrics.storage.read.plan import snapshot
from metrics.storage.series_registry import current_registry
from metrics.storage.shards import shards_of_series
from metrics.storage.units import DAY, to_microseconds
from metrics.streams.conflation import TagFilter
from metrics.streams.encoding import SeriesValue
from metrics.streams.feeds import FeedKey
from metrics.streams.positions import Position, read_epoch
from metrics.streams.series_points import SeriesPoints, StreamedSeries
from metrics.streams.stored_series import find_series, find_series_of_feed

MAX_POINTS = 100_000  # of a gap; a client that missed more reads its data again
MAX_AGE = DAY  # µs since the first missed commit
MAX_COMMITS = 20_000  # in the blocks of a gap and not merged
BLOCKS_AT_ONCE = 32  # read with one statement
MAX_SEARCHED_POINTS = 20_000_000  # of all series, in the blocks and commits of a gap
PAGE_SERIES = 2_000  # of a snapshot that are read together

_HEADS = "SELECT shard, seq FROM metrics_head WHERE shard = ANY(%s)"
# The journal is kept longer than the commit.
_COMMIT_AGE = """
SELECT (extract(epoch FROM clock_timestamp() - at) * 1000000)::bigint FROM metrics_journal
WHERE shard = %s AND seq = %s
"""
_MERGED_UNTIL = "SELECT seq FROM metrics_merged WHERE shard = %s"
_BLOCKS = """
SELECT id, points FROM metrics_block
WHERE shard = %(shard)s AND seq_to > %(seq)s AND bucket = ANY(%(buckets)s)
  AND series_from <= %(high)s AND series_to >= %(low)s
ORDER BY seq_to, id
"""

Reason = Literal["epoch", "future", "too_old", "too_large"]


@dataclass(frozen=True, slots=True)
class Gap:
    """Points that a client missed since its position, series by series in order of time.

    recovered  whether the values are complete; otherwise `reason` says why, and the client needs a snapshot
    values     every point that it missed; points that it has may be among them
    known      the newest value of each series that the client has with the missed ones, for `Feed.mark_sent`
    """

    recovered: bool
    reason: Reason | None = None
    values: list[SeriesValue] = field(default_factory=list)
    known: list[SeriesValue] = field(default_factory=list)


class _NotRecoverable(Exception):
    """The gap cannot be read."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


def read_snapshot(key: FeedKey) -> list[SeriesValue]:
    """Return the newest value of each series of the last day, by device and metric. Raises StorageUnavailable.

    With tags, a series whose newest point does not have them is left out.
    """
    ids = {(series.device_id, series.metric_name): series.series_id for _, series in find_series_of_feed(key)}
    metrics = None if key.metrics is None else sorted(key.metrics)
    tags = TagFilter(key.tags)
    values: list[SeriesValue] = []
    for devices in _pages(device_id for device_id, _ in ids):
        for point in latest.read_latest_points(devices, metrics).points:
            series_id = ids.get((point.device_id, point.metric_name))
            if series_id is not None and tags.matches(point.tags):
                time = to_microseconds(point.timestamp)
                values.append(SeriesValue(series_id, point.device_id, point.metric_name, time, point.value, point.unit))
    return values


def _pages(devices: Iterable[str]) -> Iterator[list[str]]:
    """Split the devices of series, in order, into those of about PAGE_SERIES series."""
    page: list[str] = []
    series = 0
    for device_id in devices:
        series += 1
        if not page or page[-1] != device_id:
            if series > PAGE_SERIES:
                yield page
                page, series = [], 1
            page.append(device_id)
    if page:
        yield page


def read_gap(key: FeedKey, position: Position) -> Gap:
    """Return every point of the matching series in commits after a position. Raises StorageUnavailable."""
    known = read_snapshot(key)  # before the gap: the client has all of it then
    try:
        with snapshot() as connection:
            if position.epoch != read_epoch(connection):
                raise _NotRecoverable("epoch")
            series = dict(find_series(connection, key))
            parts = _read_missed(connection, position, np.array(sorted(series), np.int64))
        values = _to_values(key, series, parts)
    except _NotRecoverable as error:
        return Gap(False, error.reason)
    return Gap(True, None, values, [*known, *values])


def _read_missed(connection: Connection, position: Position, series: Ints) -> list[Columns]:
    """Return the points of these series (ascending) in commits after a position. Raises _NotRecoverable."""
    shards = shards_of_series(series)
    numeric: list[Columns] = []
    others: list[Columns] = []
    for shard, head in sorted(_read_heads(connection, position, np.unique(shards).tolist()).items()):
        for part in _read_missed_of_shard(connection, shard, (position.offsets[shard], head), series[shards == shard]):
            (numeric if part.is_numeric else others).append(part)
    # Removals are part of it: of a point that another kind of value has replaced meanwhile.
    return [drop_removed(concatenate(parts)) for parts in (numeric, others) if parts]


def _read_heads(connection: Connection, position: Position, shards: list[int]) -> CommitCursor:
    """Return the last commit of each of these shards. Raises _NotRecoverable if the position is not before it."""
    heads: CommitCursor = dict(connection.execute(_HEADS, (shards,)).fetchall())
    if any(shard >= len(position.offsets) or position.offsets[shard] > seq for shard, seq in heads.items()):
        raise _NotRecoverable("future")
    return heads


def _read_missed_of_shard(
    connection: Connection, shard: int, missed: tuple[int, int], series: Ints
) -> Iterator[Columns]:
    """Yield the missed points of a shard, later ones last. Raises _NotRecoverable."""
    after, head = missed
    if after == head:
        return
    _check_age(connection, shard, after + 1)
    found = 0
    damaged: list[str] = []  # a read of the time range leaves damaged blocks out too
    keys = _find_blocks(connection, shard, missed, series)
    for start in range(0, len(keys), BLOCKS_AT_ONCE):
        blocks = read_blocks(connection, keys[start : start + BLOCKS_AT_ONCE], damaged, series)
        for part in chain.from_iterable(blocks.values()):
            if len(kept := select_series(part, series)):
                found += len(kept)
                if found > 2 * MAX_POINTS:  # before replaced points and other tags are left out
                    raise _NotRecoverable("too_large")
                yield kept


def _check_age(connection: Connection, shard: int, seq: int) -> None:
    row = connection.execute(_COMMIT_AGE, (shard, seq)).fetchone()
    if row is None or row[0] > MAX_AGE:
        raise _NotRecoverable("too_old")


def _find_blocks(connection: Connection, shard: int, missed: tuple[int, int], series: Ints) -> list[BlockKey]:
    """Return the blocks and commits with points after a position, in their order. Raises _NotRecoverable.

    Commits are preferred as long as all of them exist, since they have no other points.
    """
    after, head = missed
    headers = read_commit_headers(connection, shard, after, MAX_COMMITS + 1)
    blocks: list[BlockKey] = []
    points = 0
    if len(headers) < head - after:
        row = connection.execute(_MERGED_UNTIL, (shard,)).fetchone()
        merged_until: int = 0 if row is None else row[0]
        headers = [header for header in headers if header.seq > merged_until]
        parameters = {
            "shard": shard,
            "seq": after,
            "buckets": sorted(set(map(bucket_of, series.tolist()))),
            "low": int(series[0]),
            "high": int(series[-1]),
        }
        for block_id, block_points in connection.execute(_BLOCKS, parameters):
            blocks.append((MERGED, (shard, block_id)))
            points += block_points
    blocks += [(UNMERGED, (shard, header.seq)) for header in headers]
    if len(headers) > MAX_COMMITS or points + sum(header.points for header in headers) > MAX_SEARCHED_POINTS:
        raise _NotRecoverable("too_large")
    return blocks


def _to_values(key: FeedKey, series: Mapping[int, StreamedSeries], parts: Sequence[Columns]) -> list[SeriesValue]:
    """Return the points with the tags of a subscription as values. Raises _NotRecoverable."""
    registry, tags = current_registry(), TagFilter(key.tags) if key.tags else None
    values: list[SeriesValue] = []
    for part in parts:
        offsets = part.offsets.tolist()
        for index, series_id in enumerate(part.ids.tolist()):
            streamed = series[series_id]
            unit = registry.unit(streamed.metric_name)
            points = SeriesPoints(streamed, part, offsets[index], offsets[index + 1], unit)
            positions = range(points.low, points.high) if tags is None else tags.positions(points)
            if len(values) + len(positions) > MAX_POINTS:
                raise _NotRecoverable("too_large")
            values += map(points.value_at, positions)
    values.sort(key=lambda value: (value.device_id, value.metric_name, value.timestamp))
    return values
