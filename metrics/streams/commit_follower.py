"""The commit follower of a process: reads and decodes each commit once and passes it to the feeds that match.

It reads from PostgreSQL, so live streams need neither Redis nor a worker. Without feeds nothing is read.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from metrics.query.series_lookup import SeriesIdentity, read_series_identities
from metrics.storage.connection import read_connection
from metrics.storage.errors import StorageError
from metrics.storage.format.codec import Columns
from metrics.storage.read import block_cache
from metrics.storage.read.block_cache import CommitCursor
from metrics.storage.shards import BlockId
from metrics.storage.write.group_commit import writer
from metrics.streams.feeds import Feed, FeedKey, SeriesPoints
from metrics.streams.positions import Epoch, Position, read_epoch

log = logging.getLogger(__name__)

POLL_INTERVAL = 0.1  # seconds between polls for commits of other processes
RETRY_INTERVAL = 1.0  # seconds after a failed read
READ_LIMIT = 200  # commits of a shard per read


class _State(NamedTuple):
    """Where the follower is; the epoch tells whether it is still the same database."""

    epoch: Epoch
    cursor: CommitCursor


class _Read(NamedTuple):
    """Result of a read: the state after it, the parts of the new commits, and whether commits were missed."""

    state: _State
    parts: list[Columns]
    commits: int = 0
    is_behind: bool = False
    is_lost: bool = False


@dataclass(slots=True)
class _Routing:
    """Which series which feeds receive; a series without feeds is remembered as such, without its names."""

    identities: dict[int, SeriesIdentity]
    feeds: dict[int, list[Feed]]
    unmatched: set[int]


class CommitFollower:
    """Passes commits to the feeds in the event loop of one process."""

    def __init__(self) -> None:
        self._feeds: dict[FeedKey, Feed] = {}
        self._users: dict[FeedKey, int] = {}
        self._routing = _Routing({}, {}, set())
        self._state: _State | None = None
        self._task: asyncio.Task[None] | None = None
        self._committed = asyncio.Event()
        self._ready = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.decoded_commits = 0  # each commit counts once, however many feeds there are

    @property
    def position(self) -> str:
        """The position up to which commits were passed to the feeds."""
        if self._state is None:
            raise RuntimeError("the commit follower has not read the database yet")
        return str(Position.at(self._state.epoch, self._state.cursor))

    async def subscribe(self, key: FeedKey) -> Feed:
        """Return the feed of a subscription; the caller ends its use with `release`.

        Commits after `feed.position` reach it, so a snapshot that is read afterwards leaves no gap.
        """
        feed = self._feeds.get(key)
        if feed is None:
            feed = self._feeds[key] = Feed(key, lambda: self.position)
            self._route(feed)
        self._users[key] = self._users.get(key, 0) + 1
        self._start()
        try:
            await self._ready.wait()
        except BaseException:
            self.release(feed)
            raise
        return feed

    def release(self, feed: Feed) -> None:
        """End one use of a feed; the last one stops it."""
        self._users[feed.key] -= 1
        if self._users[feed.key]:
            return
        feed.cancel()
        del self._users[feed.key], self._feeds[feed.key]
        for series in feed.routed:
            feeds = self._routing.feeds[series]
            feeds.remove(feed)
            if not feeds:
                del self._routing.feeds[series], self._routing.identities[series]

    def _start(self) -> None:
        if self._task is None or self._task.done():
            self._loop = asyncio.get_running_loop()
            self._ready, self._committed, self._state = asyncio.Event(), asyncio.Event(), None
            writer().call_after_commit(self._wake)
            self._task = self._loop.create_task(self._run())

    def _wake(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._committed.set)

    # --- routing ------------------------------------------------------------------------------------

    def _route(self, feed: Feed) -> None:
        """Pass the known series that match to a new feed; series that no feed wanted are looked up again."""
        self._routing.unmatched = set()
        for series, identity in self._routing.identities.items():
            if feed.key.matches(identity.device_id, identity.metric_name):
                self._routing.feeds[series].append(feed)
                feed.routed.add(series)

    def _route_series(self, identities: Iterable[SeriesIdentity], looked_up: Iterable[int]) -> None:
        unmatched = set(looked_up)
        for identity in identities:
            feeds = [
                feed for feed in self._feeds.values() if feed.key.matches(identity.device_id, identity.metric_name)
            ]
            if feeds:
                unmatched.discard(identity.id)
                self._routing.identities[identity.id] = identity
                self._routing.feeds[identity.id] = feeds
                for feed in feeds:
                    feed.routed.add(identity.id)
        self._routing.unmatched |= unmatched

    # --- reading ------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while self._feeds:
            is_behind = False
            try:
                is_behind = await self._step()
            except StorageError as error:
                log.warning("live values are delayed, the database is unavailable: %s", str(error).split("\n")[0])
                await asyncio.sleep(RETRY_INTERVAL)
            except Exception:  # the follower must go on for its feeds
                log.exception("reading live values failed")
                await asyncio.sleep(RETRY_INTERVAL)
            if not is_behind:
                await self._wait_for_commit()

    async def _wait_for_commit(self) -> None:
        try:
            async with asyncio.timeout(POLL_INTERVAL):
                await self._committed.wait()
        except TimeoutError:
            return

    async def _step(self) -> bool:
        """Read the next commits and pass them to the feeds; return whether there may be more."""
        self._committed.clear()
        read = await asyncio.to_thread(_read, self._state)
        if read.is_lost:
            log.warning("live streams start again: commits were missed, or the database was restored")
            self._routing = _Routing({}, {}, set())
            for feed in self._feeds.values():
                feed.routed.clear()
        for part in read.parts:
            await self._route_new_series(part)
            self._pass_on(part)
        self._state = read.state
        self.decoded_commits += read.commits
        self._ready.set()
        for feed in list(self._feeds.values()):
            if read.is_lost:
                feed.lose()
            else:
                feed.schedule()
        return read.is_behind

    async def _route_new_series(self, part: Columns) -> None:
        routing = self._routing
        new = [
            series for series in part.ids.tolist() if series not in routing.feeds and series not in routing.unmatched
        ]
        if new:
            self._route_series(await asyncio.to_thread(_read_identities, new), new)

    def _pass_on(self, part: Columns) -> None:
        """Pass the points of a part to the feeds of their series."""
        routes, offsets = self._routing.feeds, part.offsets.tolist()
        for index, series in enumerate(part.ids.tolist()):
            feeds = routes.get(series)
            if not feeds:
                continue
            identity = self._routing.identities[series]
            points = SeriesPoints(
                series,
                identity.device_id,
                identity.metric_name,
                identity.kind,
                part,
                offsets[index],
                offsets[index + 1],
            )
            newest = points.value_at(points.high - 1)
            for feed in feeds:
                feed.add(points, newest)


def _read_identities(series: Sequence[int]) -> list[SeriesIdentity]:
    with read_connection() as connection:
        return read_series_identities(connection, np.array(series, np.int64))


def _read(state: _State | None) -> _Read:
    """Read the commits after a state; without one, only where the stream is now. Raises StorageError."""
    with read_connection() as connection:
        heads = block_cache.read_heads(connection)
        if state is None:
            return _Read(_State(read_epoch(connection), heads), [])
        # A shard whose node fails is left out of the heads; it goes on from here.
        cursor = {shard: seq for shard, seq in state.cursor.items() if seq < heads.get(shard, seq)}
        new_shards = {shard: seq for shard, seq in heads.items() if shard not in state.cursor}
        if any(heads.get(shard, seq) < seq for shard, seq in state.cursor.items()):
            return _Read(_State(read_epoch(connection), state.cursor | heads), [], is_lost=True)
        commits = block_cache.read_commits_after(connection, cursor, READ_LIMIT) if cursor else []
    reached = _contiguous(cursor, [number for number, _ in commits])
    if reached is None:
        return _lost()
    position = _State(state.epoch, state.cursor | new_shards | reached)
    is_behind = any(seq < heads[shard] for shard, seq in reached.items())
    return _Read(position, [part for _, parts in commits for part in parts], len(commits), is_behind)


def _lost() -> _Read:
    with read_connection() as connection:
        return _Read(_State(read_epoch(connection), block_cache.read_heads(connection)), [], is_lost=True)


def _contiguous(cursor: CommitCursor, numbers: Sequence[BlockId]) -> CommitCursor | None:
    """Return the last commit of each shard of the cursor; None if a commit in between is gone."""
    reached = dict(cursor)
    for shard, seq in numbers:
        if seq != reached[shard] + 1:
            return None
        reached[shard] = seq
    return None if any(reached[shard] == seq for shard, seq in cursor.items()) else reached


_follower: CommitFollower | None = None


def follower() -> CommitFollower:
    """Return the commit follower of this process."""
    global _follower
    if _follower is None:
        _follower = CommitFollower()
    return _follower


def reset_commit_follower() -> None:
    """Discard the commit follower; the next subscription starts a new one."""
    global _follower
    _follower = None
