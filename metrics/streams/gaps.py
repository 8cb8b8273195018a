"""What a client must read when it starts or resumes: the newest value per series, or every point that it missed."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from metrics.query import latest
from metrics.query.latest import SELECT_SERIES
from metrics.query.series_lookup import SeriesIdentity
from metrics.storage.connection import Connection, read_connection
from metrics.storage.format.codec import Columns, Ints, Kind
from metrics.storage.format.layout import bucket_of, merge_by_encoding, select_series
from metrics.storage.read.block_cache import CommitCursor, read_commits_after, read_heads
from metrics.storage.read.commit_stream import read_commit_headers
from metrics.storage.read.plan import plan_read, snapshot
from metrics.storage.read.scan import read_points
from metrics.storage.shards import shards_of_series
from metrics.storage.units import to_microseconds
from metrics.streams.encoding import SeriesValue
from metrics.streams.feeds import FeedKey, SeriesPoints
from metrics.streams.positions import Position, read_epoch

MAX_POINTS = 100_000  # of a gap; a client that missed more reads its data again
MAX_COMMITS = 20_000  # that are searched one by one
MAX_COMMIT_POINTS = 2_000_000  # of all series in these commits

# Both bounds contain every point that was written after the position; merged blocks have older ones too.
_MERGED_RANGE = """
SELECT min(time_from), max(time_to) FROM metrics_block
WHERE shard = %(shard)s AND bucket = ANY(%(buckets)s) AND seq_to > %(seq)s
  AND series_from <= %(high)s AND series_to >= %(low)s
"""
_UNMERGED_RANGE = "SELECT min(time_from), max(time_to) FROM metrics_young WHERE shard = %(shard)s AND seq > %(seq)s"

Reason = Literal["epoch", "future", "too_large"]


@dataclass(frozen=True, slots=True)
class Gap:
    """What a client missed since its position, series by series in order of time.

    recovered  whether the values are complete; otherwise `reason` says why, and the client needs a snapshot
    values     every point that it missed; points that it has may be among them
    """

    recovered: bool
    reason: Reason | None = None
    values: list[SeriesValue] = field(default_factory=list)


def read_snapshot(key: FeedKey) -> list[SeriesValue]:
    """Return the newest value of each series of the last day. Raises StorageUnavailable."""
    devices = None if key.devices is None else sorted(key.devices)
    metrics = None if key.metrics is None else sorted(key.metrics)
    points = latest.read_latest_points(devices, metrics).points
    with read_connection() as connection:
        numbers = {(row.device_id, row.metric_name): row.id for row in _find_series(connection, key)}
    return [
        SeriesValue(
            number, point.device_id, point.metric_name, to_microseconds(point.timestamp), point.value, point.unit
        )
        for point in points
        if (number := numbers.get((point.device_id, point.metric_name))) is not None
        and key.tags.issubset((name, tag) for name, tag in point.tags.items() if not isinstance(tag, list | dict))
    ]


def read_gap(key: FeedKey, position: Position) -> Gap:
    """Return every point of the matching series in commits after a position. Raises StorageUnavailable.

    Commits are read one by one where they still exist. Once some are merged, all points of the time range that the
    later blocks cover are read, so the client must merge them by time with what it has.
    """
    with snapshot() as connection:
        if position.epoch != read_epoch(connection):
            return Gap(False, "epoch")
        heads = read_heads(connection)
        if len(position.offsets) < len(heads) or any(seq > heads.get(n, seq) for n, seq in position.cursor.items()):
            return Gap(False, "future")
        missed = {shard: seq for shard, seq in position.cursor.items() if seq < heads.get(shard, seq)}
        identities = {row.id: row for row in _find_series(connection, key)} if missed else {}
        if not identities:
            return Gap(True)
        series = np.array(sorted(identities), np.int64)
        parts = _read_commits(connection, missed, heads, series)
        if parts is None:
            parts = _read_range(connection, missed, series)
    if parts is None:
        return Gap(False, "too_large")
    values = list(_values(key, identities, parts))
    values.sort(key=lambda value: (value.device_id, value.metric_name, value.timestamp))
    return Gap(True, None, values) if len(values) <= MAX_POINTS else Gap(False, "too_large")


def _find_series(connection: Connection, key: FeedKey) -> list[SeriesIdentity]:
    parameters = {
        "devices": None if key.devices is None else sorted(key.devices),
        "metrics": None if key.metrics is None else sorted(key.metrics),
        "groups": None,
    }
    rows = connection.execute(SELECT_SERIES, parameters)
    return [SeriesIdentity(number, Kind(kind), metric, 0, device) for number, kind, device, metric in rows]


def _read_commits(
    connection: Connection, missed: CommitCursor, heads: CommitCursor, series: Ints
) -> list[Columns] | None:
    """Return the points of the missed commits, without replaced ones; None if commits are gone or too large."""
    total = 0
    for shard, seq in missed.items():
        headers = read_commit_headers(connection, shard, seq, MAX_COMMITS)
        if [header.seq for header in headers] != list(range(seq + 1, heads[shard] + 1)):
            return None
        total += sum(header.points for header in headers)
    if total > MAX_COMMIT_POINTS:
        return None
    commits = read_commits_after(connection, missed, MAX_COMMITS)
    if len(commits) < sum(heads[shard] - seq for shard, seq in missed.items()):
        return None  # a damaged one
    parts = (select_series(part, series) for _, commit in commits for part in commit)
    return merge_by_encoding([part for part in parts if len(part)])


def _read_range(connection: Connection, missed: CommitCursor, series: Ints) -> list[Columns] | None:
    """Return all points of the time range that the later blocks and commits cover; None if they are too many."""
    start, end = _time_range(connection, missed, series)
    if start is None or end is None:
        return []
    planned = plan_read(connection, series, start, end + 1)
    parts: list[Columns] = []
    points = 0
    for part in read_points(connection, planned, whole=True):
        points += len(part)
        if points > MAX_POINTS:
            return None
        parts.append(part)
    return parts


def _time_range(connection: Connection, missed: CommitCursor, series: Ints) -> tuple[int | None, int | None]:
    shards = shards_of_series(series)
    ranges: list[tuple[int | None, int | None]] = []
    for shard, seq in missed.items():
        of_shard = series[shards == shard]
        if not len(of_shard):
            continue
        parameters = {
            "shard": shard,
            "seq": seq,
            "buckets": sorted(set(map(bucket_of, of_shard.tolist()))),
            "low": int(of_shard[0]),
            "high": int(of_shard[-1]),
        }
        for statement in (_MERGED_RANGE, _UNMERGED_RANGE):
            ranges += connection.execute(statement, parameters).fetchall()
    starts = [start for start, _ in ranges if start is not None]
    ends = [end for _, end in ranges if end is not None]
    return (min(starts), max(ends)) if starts and ends else (None, None)


def _values(key: FeedKey, identities: Mapping[int, SeriesIdentity], parts: Sequence[Columns]) -> Iterator[SeriesValue]:
    for points in _split(identities, parts):
        for position in range(points.low, points.high):
            if key.has_tags(points.context_at(position)):
                yield points.value_at(position)


def _split(identities: Mapping[int, SeriesIdentity], parts: Iterable[Columns]) -> Iterator[SeriesPoints]:
    for part in parts:
        offsets = part.offsets.tolist()
        for index, series in enumerate(part.ids.tolist()):
            if (identity := identities.get(series)) is not None:
                yield SeriesPoints(
                    series,
                    identity.device_id,
                    identity.metric_name,
                    identity.kind,
                    part,
                    offsets[index],
                    offsets[index + 1],
                )
