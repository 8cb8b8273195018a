"""The stream follower of a web process: reads each commit once and passes the newest values to live subscriptions.

A subscription keeps only the newest value per series: a slow client misses values in between, and costs no memory.
Without subscriptions nothing is read.
"""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from metrics.query import latest
from metrics.storage.connection import read_connection
from metrics.storage.errors import StorageError
from metrics.storage.format.codec import Columns, Kind
from metrics.storage.format.json_values import to_json_value
from metrics.storage.read import block_cache
from metrics.storage.series_registry import current_registry
from metrics.storage.write.group_commit import writer

log = logging.getLogger(__name__)

POLL_INTERVAL = 0.25  # seconds between polls for commits of other processes

LiveValue = tuple[str, str, float, Any, str | None]  # device, metric, time in ms since 1970, value, unit


@dataclass(eq=False)
class Subscription:
    """The devices and metrics of one client (None: all) and the values that it has not received yet."""

    follower: "StreamFollower"
    devices: frozenset[str] | None
    metrics: frozenset[str] | None
    pending: dict[tuple[str, str], LiveValue] = field(default_factory=dict)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _last: float = 0.0

    async def next(self, min_interval: float) -> list[LiveValue]:
        """Return the newest value of each series with new values, at most once in `min_interval` seconds."""
        clock = asyncio.get_running_loop().time
        await self.arrived.wait()
        await asyncio.sleep(max(0.0, self._last + min_interval - clock()))
        self._last = clock()
        self.arrived.clear()
        values, self.pending = list(self.pending.values()), {}
        return values

    def limit(self, devices: Iterable[str] | None) -> None:
        """Replace the devices, and discard values of other devices."""
        self.devices = _frozen(devices)
        if self.devices is not None:
            self.pending = {key: value for key, value in self.pending.items() if key[0] in self.devices}

    def close(self) -> None:
        self.follower.subscriptions.discard(self)

    def offer(self, update: LiveValue) -> None:
        """Keep a value if it matches the subscription and is not older than the pending one."""
        if (self.devices is None or update[0] in self.devices) and (self.metrics is None or update[1] in self.metrics):
            key = update[:2]
            pending = self.pending.get(key)
            if pending is None or pending[2] <= update[2]:
                self.pending[key] = update
                self.arrived.set()


def _frozen(names: Iterable[str] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names)


class StreamFollower:
    """Passes committed values to the subscriptions in the event loop of one process."""

    def __init__(self) -> None:
        self.subscriptions: set[Subscription] = set()
        self._names: dict[int, tuple[str, str, Kind]] = {}
        self._task: asyncio.Task[None] | None = None
        self._committed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def _wake(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._committed.set)

    def subscribe(self, devices: Iterable[str] | None, metrics: Iterable[str] | None) -> Subscription:
        subscription = Subscription(self, _frozen(devices), _frozen(metrics))
        self.subscriptions.add(subscription)
        if self._task is None or self._task.done():
            self._loop = asyncio.get_running_loop()
            writer().call_after_commit(self._wake)
            self._task = self._loop.create_task(self._run())
        return subscription

    async def _run(self) -> None:
        cursor: block_cache.CommitCursor | None = None
        while self.subscriptions:
            try:
                cursor, updates = await asyncio.to_thread(self._read, cursor)
            except StorageError as error:
                log.warning("live values are delayed, the database is unavailable: %s", str(error).split("\n")[0])
                updates = []
                await asyncio.sleep(1)
            except Exception:  # the follower must go on for its subscriptions
                log.exception("reading live values failed")
                cursor, updates = None, []
                await asyncio.sleep(1)
            for update in updates:
                for subscription in self.subscriptions:
                    subscription.offer(update)
            self._committed.clear()
            try:
                await asyncio.wait_for(self._committed.wait(), POLL_INTERVAL)
            except TimeoutError:
                continue

    def _read(self, cursor: block_cache.CommitCursor | None) -> tuple[block_cache.CommitCursor, list[LiveValue]]:
        with read_connection() as connection:
            heads = block_cache.read_heads(connection)
            if cursor is None:
                return heads, []
            # The sequence number of a restored database may be lower.
            positions = cursor | {shard: min(cursor.get(shard, seq), seq) for shard, seq in heads.items()}
            commits = block_cache.read_commits_after(
                connection, {shard: seq for shard, seq in positions.items() if seq < heads.get(shard, seq)}
            )
        positions |= {shard: seq for (shard, seq), _ in commits}
        return positions, [update for _, parts in commits for part in parts for update in self._updates(part)]

    def _updates(self, part: Columns) -> Iterable[LiveValue]:
        ids = part.ids.tolist()
        self._load_names([number for number in ids if number not in self._names])
        for number, at in zip(ids, (part.offsets[1:] - 1).tolist(), strict=True):
            if number not in self._names:
                continue
            device_id, metric, kind = self._names[number]
            entry = b"" if part.contexts is None else part.dictionary[part.contexts[at]]
            unit = latest.read_context(entry)[0] or current_registry().unit(metric)
            yield device_id, metric, part.times[at] / 1000, to_json_value(part.values[at], kind), unit

    def _load_names(self, numbers: list[int]) -> None:
        if not numbers:
            return
        with read_connection() as connection:
            rows = connection.execute(
                "SELECT s.id, d.device_id, s.metric_name, s.kind FROM metrics_series s"
                " JOIN metrics_device d ON d.id = s.device_id WHERE s.id = ANY(%s)",
                (numbers,),
            ).fetchall()
        self._names |= {number: (device_id, metric, Kind(kind)) for number, device_id, metric, kind in rows}


_follower: StreamFollower | None = None


def follower() -> StreamFollower:
    """Return the stream follower of this process."""
    global _follower
    if _follower is None:
        _follower = StreamFollower()
    return _follower


def reset_stream_follower() -> None:
    """Discard the stream follower; the next subscription starts a new one."""
    global _follower
    _follower = None
