"""Data events for one target: the stored points of each commit, one event per device.

They are derived from the commits themselves, so that ingest does no work for them. Where many commits wait, runs of
COMMITS_PER_RUN are reported together, or the relay would need more time than ingest. Commits that were merged before
the target received them, after an outage of some minutes, are reported per merged block. Either way the same points are
in fewer events, which say which commits they cover.
"""

import uuid
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns
from metrics.storage.format.layout import MERGED, drop_removed_of_all
from metrics.storage.read import block_cache
from metrics.storage.units import format_time, to_datetime
from telemetry_site.bus.cloud_event import CloudEvent, schema_of
from telemetry_site.bus.cursors import load_positions, move_position
from telemetry_site.bus.event_source import event_source
from telemetry_site.bus.targets.target import Stream

DATA_RECEIVED = "telemetry.data.received"
MAX_METRICS = 100  # names in one event
COMMITS_PER_READ = 64  # of a shard
COMMITS_PER_RUN = 16  # runs begin at multiples, so that a run has the same events when it is sent again
BLOCKS_PER_READ = 20
_LATEST = np.iinfo(np.int64).max
_NAMESPACE = uuid.UUID("6f0e9c1a-53c8-5d0b-9a5b-6a1c2f1d7e44")

_OLDEST_COMMIT = "SELECT min(seq) FROM metrics_young WHERE shard = %s AND seq > %s"
_COMMIT_TIMES = """
SELECT seq, (extract(epoch FROM at) * 1000000)::bigint FROM metrics_young WHERE shard = %s AND seq = ANY(%s)
"""
_MERGED_BLOCKS = """
SELECT id, seq_from, seq_to, (extract(epoch FROM made_at) * 1000000)::bigint FROM metrics_block
WHERE shard = %s AND seq_to > %s AND seq_from <= %s AND id > %s ORDER BY id LIMIT %s
"""
_NAMES = """
SELECT s.id, d.device_id, s.metric_name FROM metrics_series s JOIN metrics_device d ON d.id = s.device_id
WHERE s.id = ANY(%s)
"""


class DataReceived(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Points of one device in one commit, or in the commits up to `sequence_to` if it is there."""

    device_id: str
    points: int
    metrics: list[str]
    time_from: str
    time_to: str
    shard: int
    sequence: int
    sequence_to: int | None = None


Commit = tuple[int, list[Columns]]  # number and points


class _Batch(NamedTuple):
    """Data events, and the position of the shard once they are delivered."""

    shard: int
    seq: int
    events: list[CloudEvent]


class _Gap(NamedTuple):
    """Merged commits after `start` up to `end` that have to be reported by block; `block` is the last block read."""

    start: int
    end: int
    block: int = 0


class DataSource:
    """Reads the stream of commits from the stored positions of a target."""

    stream = Stream.DATA
    # Pause after a window, in multiples of its duration: with all of a core, the relay would slow down ingest. More
    # commits wait after a pause, and more of them are reported as runs.
    pause_factor = 3.0

    def __init__(self, name: str) -> None:
        self._name, self._epoch = name, ""
        self._positions: dict[int, int] = {}
        self._gaps: dict[int, _Gap] = {}
        self._batches: list[_Batch] = []

    def load(self, connection: Connection, epoch: str) -> None:
        """Start at the stored positions; a new target starts with the next commit."""
        self._epoch, self._gaps, self._batches = epoch, {}, []
        self._positions = load_positions(connection, self._name)
        for shard, head in block_cache.read_heads(connection).items():
            position = self._positions.get(shard)
            if position is None or position > head:  # a restored database may have fewer commits
                move_position(connection, self._name, shard, position, head)
                self._positions[shard] = head

    def read(self, connection: Connection, limit: int) -> Sequence[CloudEvent]:
        """Return the next events, up to `limit`; the same ones until `advance` is called. Raises CursorMoved."""
        if not self._batches:
            self._batches = [
                batch for shard in sorted(self._positions) for batch in self._read_shard(connection, shard)
            ]
            self._finish_batches(connection)
        return [event for batch in self._batches for event in batch.events][:limit]

    def advance(self, connection: Connection, count: int) -> None:
        """Store that the first `count` events were delivered. Raises CursorMoved."""
        for batch in self._batches:
            delivered = min(count, len(batch.events))
            del batch.events[:delivered]
            count -= delivered
        self._finish_batches(connection)

    def _finish_batches(self, connection: Connection) -> None:
        """Store the positions of batches without events left."""
        moves: dict[int, int] = {}
        while self._batches and not self._batches[0].events:
            shard, seq, _ = self._batches.pop(0)
            moves[shard] = seq
        for shard, seq in moves.items():
            if seq != self._positions[shard]:
                move_position(connection, self._name, shard, self._positions[shard], seq)
                self._positions[shard] = seq

    def _read_shard(self, connection: Connection, shard: int) -> list[_Batch]:
        position = self._positions[shard]
        if (gap := self._gaps.get(shard) or self._find_gap(connection, shard, position)) is not None:
            return self._read_gap(connection, shard, gap)
        commits = block_cache.read_commits_after(connection, {shard: position}, COMMITS_PER_READ)
        times: dict[int, int] = dict(
            connection.execute(_COMMIT_TIMES, (shard, [seq for (_, seq), _ in commits])).fetchall()
        )
        batches = []
        for run in split_into_runs([(seq, parts) for (_, seq), parts in commits]):
            first, last = run[0][0], run[-1][0]
            parts = [part for _, commit in run for part in commit]
            seq_to, place = (last, f"commits {first}-{last}") if len(run) > 1 else (None, "")
            events = self._events(connection, parts, times.get(last, 0), shard, first, seq_to, place)
            batches.append(_Batch(shard, last, list(events)))
        return batches

    def _find_gap(self, connection: Connection, shard: int, position: int) -> _Gap | None:
        """Return the merged commits between the position and the oldest commit that can be read."""
        row = connection.execute(_OLDEST_COMMIT, (shard, position)).fetchone()
        if row is None or row[0] is None:
            head = block_cache.read_heads(connection).get(shard, position)
            return _Gap(position, head) if head > position and self._is_merged(connection, shard, head) else None
        return _Gap(position, row[0] - 1) if row[0] > position + 1 else None

    @staticmethod
    def _is_merged(connection: Connection, shard: int, seq: int) -> bool:
        row = connection.execute("SELECT seq FROM metrics_merged WHERE shard = %s", (shard,)).fetchone()
        return row is not None and row[0] >= seq

    def _read_gap(self, connection: Connection, shard: int, gap: _Gap) -> list[_Batch]:
        rows = connection.execute(_MERGED_BLOCKS, (shard, gap.start, gap.end, gap.block, BLOCKS_PER_READ)).fetchall()
        keys = {number: (MERGED, (shard, number)) for number, *_ in rows}
        try:
            parts = block_cache.read_blocks(connection, list(keys.values()), [])
        except block_cache.BlocksChanged:  # merged once more: the new block has a higher id
            self._gaps.pop(shard, None)
            return []
        batches = []
        for number, seq_from, seq_to, made_at in rows:
            readable = drop_removed_of_all(parts[keys[number]])
            events = self._events(connection, readable, made_at, shard, seq_from, seq_to, f"block {number}")
            batches.append(_Batch(shard, gap.start, list(events)))
        if len(rows) == BLOCKS_PER_READ:
            self._gaps[shard] = gap._replace(block=rows[-1][0])
            return batches
        self._gaps.pop(shard, None)
        return [*batches, _Batch(shard, gap.end, [])]

    def _events(
        self, connection: Connection, parts: Sequence[Columns], at: int, shard: int, seq: int, seq_to: int | None,
        place: str = "",
    ) -> Iterator[CloudEvent]:  # fmt: skip
        for data in _summaries(connection, parts, shard, seq, seq_to):
            name = f"{self._epoch}/{shard}/{place or seq}/{data.device_id}"
            yield CloudEvent(
                str(uuid.uuid5(_NAMESPACE, name)),
                event_source(),
                DATA_RECEIVED,
                f"device/{data.device_id}",
                format_time(to_datetime(at)),
                schema_of(DATA_RECEIVED),
                msgspec.json.encode(data),
            )


def split_into_runs(commits: Sequence[Commit]) -> list[Sequence[Commit]]:
    """Split commits into whole runs of COMMITS_PER_RUN, and others one by one.

    After a whole run, the commits of an unfinished one are left out: they are sent with the others of their run.
    """
    runs: list[Sequence[Commit]] = []
    position = 0
    while position < len(commits):
        run = commits[position : position + COMMITS_PER_RUN]
        is_whole = run[0][0] % COMMITS_PER_RUN == 0 and run[-1][0] == run[0][0] + COMMITS_PER_RUN - 1
        if not is_whole and runs and len(runs[-1]) > 1:
            break
        runs.append(run if is_whole else run[:1])
        position += len(runs[-1])
    return runs


class _SeriesSummary(NamedTuple):
    """Number of points of a series, and its first and last time (µs)."""

    metric: str
    points: int
    first: int
    last: int


def _summaries(
    connection: Connection, parts: Sequence[Columns], shard: int, seq: int, seq_to: int | None
) -> Iterator[DataReceived]:
    """Yield the received points of each device, by device ID. Series of deleted devices are left out."""
    devices: dict[str, list[_SeriesSummary]] = {}
    for device_id, summary in _summarize_series(connection, parts) if parts else ():
        devices.setdefault(device_id, []).append(summary)
    for device_id, series in sorted(devices.items()):
        yield DataReceived(
            device_id=device_id,
            points=sum(summary.points for summary in series),
            metrics=sorted({summary.metric for summary in series})[:MAX_METRICS],
            time_from=format_time(to_datetime(min(summary.first for summary in series))),
            time_to=format_time(to_datetime(max(summary.last for summary in series))),
            shard=shard,
            sequence=seq,
            sequence_to=seq_to,
        )


def _summarize_series(connection: Connection, parts: Sequence[Columns]) -> Iterator[tuple[str, _SeriesSummary]]:
    """Yield the device and the summary of each series, whose points of all commits count, also rewritten ones."""
    ids, inverse = np.unique(np.concatenate([part.ids for part in parts]), return_inverse=True)
    counts, first, last = np.zeros(len(ids), np.int64), np.full(len(ids), _LATEST), np.full(len(ids), -_LATEST)
    np.add.at(counts, inverse, np.concatenate([np.diff(part.offsets) for part in parts]))
    np.minimum.at(first, inverse, np.concatenate([part.times[part.offsets[:-1]] for part in parts]))
    np.maximum.at(last, inverse, np.concatenate([part.times[part.offsets[1:] - 1] for part in parts]))
    numbers = ids.tolist()
    names = {number: rest for number, *rest in connection.execute(_NAMES, (numbers,)).fetchall()}
    for number, *figures in zip(numbers, counts.tolist(), first.tolist(), last.tolist(), strict=True):
        if number in names:
            device_id, metric = names[number]
            yield device_id, _SeriesSummary(metric, *figures)
