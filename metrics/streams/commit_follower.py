"""The commit follower of a process: reads and decodes each commit once and passes it to the feeds that match.

It reads from PostgreSQL, so live streams need neither Redis nor a worker. Without feeds nothing is read.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from metrics.storage.connection import read_connection
from metrics.storage.errors import StorageError, StorageUnavailable
from metrics.storage.format.codec import Columns, Ints
from metrics.storage.series_registry import SeriesRegistry, current_registry
from metrics.storage.write.group_commit import writer
from metrics.streams.feeds import Feed, FeedKey
from metrics.streams.positions import Position
from metrics.streams.read_commits import NextCommits, StreamPosition, read_next_commits
from metrics.streams.routing import Routing
from metrics.streams.series_points import SeriesPoints, StreamedSeries
from metrics.streams.stored_series import find_series_of_feed, read_series

log = logging.getLogger(__name__)

POLL_INTERVAL = 0.1  # seconds between polls for commits of other processes
# Seconds between two reads, since this process may commit hundreds of times a second. The pause is PAUSE_FACTOR times
# the duration of the read before, so that following takes a tenth of a core at most: more commits are read at once.
MIN_PAUSE, MAX_PAUSE, PAUSE_FACTOR = 0.03, 0.5, 9.0
RETRY_INTERVAL = 1.0  # seconds after a failed read
START_TIMEOUT = 10.0  # seconds until a new subscription fails because the database cannot be read
SERIES_AT_ONCE = 1_000  # passed to feeds before other tasks of the process get their turn

_ResultT = TypeVar("_ResultT")


class CommitFollower:
    """Passes commits to the feeds in the event loop of one process."""

    def __init__(self) -> None:
        self._feeds: dict[FeedKey, Feed] = {}
        self._users: dict[FeedKey, int] = {}
        self._routing = Routing()
        self._position: StreamPosition | None = None
        self._has_failed = False
        self._task: asyncio.Task[None] | None = None
        self._committed = asyncio.Event()
        self._ready = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        # A thread of its own: commits must not wait for many snapshots.
        self._thread = ThreadPoolExecutor(1, "commit follower")
        self.decoded_commits = 0  # each commit counts once, however many feeds there are

    @property
    def position(self) -> str:
        """The position up to which commits were passed to the feeds."""
        if self._position is None:
            raise RuntimeError("the commit follower has not read the database yet")
        return str(Position.at(self._position.epoch, self._position.cursor))

    async def subscribe(self, key: FeedKey) -> Feed:
        """Return the feed of a subscription; the caller ends its use with `release`. Raises StorageUnavailable.

        Commits after `feed.position` reach it, so a snapshot that is read afterwards leaves no gap.
        """
        feed = self._feeds.get(key)
        if feed is None:
            feed = self._feeds[key] = Feed(key, lambda: self.position)
        self._users[key] = self._users.get(key, 0) + 1
        try:
            self._start()
            async with asyncio.timeout(START_TIMEOUT):
                await self._ready.wait()
            if not feed.is_routed:
                series = await asyncio.to_thread(find_series_of_feed, key)
                self._routing.add_feed(feed, series)
                feed.is_routed = True
        except TimeoutError as error:
            self.release(feed)
            raise StorageUnavailable("live values cannot be read") from error
        except BaseException:
            self.release(feed)
            raise
        return feed

    def release(self, feed: Feed) -> None:
        """End one use of a feed; the last one stops it."""
        self._users[feed.key] -= 1
        if self._users[feed.key] == 0:
            feed.cancel()
            del self._users[feed.key], self._feeds[feed.key]
            self._routing.remove_feed(feed)
        if not self._feeds and self._task is not None:
            self._task.cancel()
            self._task = None

    def close(self) -> None:
        """End the thread once it is idle."""
        self._thread.shutdown(wait=False)

    def _start(self) -> None:
        if self._task is None or self._task.done():  # done with its event loop
            self._loop = asyncio.get_running_loop()
            self._ready, self._committed, self._position = asyncio.Event(), asyncio.Event(), None
            self._routing, self._has_failed = Routing(), False
            writer().call_after_commit(self._wake)
            self._task = self._loop.create_task(self._run())

    def _wake(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._committed.set)

    async def _in_thread(self, read: Callable[[], _ResultT]) -> _ResultT:
        return await asyncio.get_running_loop().run_in_executor(self._thread, read)

    # --- reading ------------------------------------------------------------------------------------

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            is_behind, began = False, clock()
            try:
                is_behind = await self._step()
                self._has_failed = False
            except StorageError as error:
                self._has_failed = True
                log.warning("live values are delayed, the database is unavailable: %s", str(error).split("\n")[0])
                await asyncio.sleep(RETRY_INTERVAL)
            except Exception:  # the follower must go on for its feeds
                self._has_failed = True
                log.exception("reading live values failed")
                await asyncio.sleep(RETRY_INTERVAL)
            if not is_behind:
                pause = min(max(PAUSE_FACTOR * (clock() - began), MIN_PAUSE), MAX_PAUSE)
                await asyncio.sleep(pause)
                await self._wait_for_commit(POLL_INTERVAL - pause)

    async def _wait_for_commit(self, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self._committed.wait()
        except TimeoutError:
            return

    async def _step(self) -> bool:
        """Read the next commits and pass them to the feeds; return whether there are more."""
        self._committed.clear()
        began = asyncio.get_running_loop().time()
        before, has_failed = self._position, self._has_failed
        read, registry = await self._in_thread(lambda: _read(before, has_failed))
        if read.is_lost:
            log.warning("live streams start again: commits were missed, or the database was restored")
            self._routing = Routing()
        for part in read.parts:
            await self._look_up(self._routing.unknown(part.ids))
        for part in read.parts:  # after all that may fail, so that no point is passed twice
            await self._pass_on(part, registry)
        self._position = read.position
        self.decoded_commits += read.commits
        self._ready.set()
        for feed in list(self._feeds.values()):
            if read.is_lost:
                feed.lose()
            else:
                feed.passed(None if read.is_behind else began)
        return read.is_behind

    async def _look_up(self, series: Ints) -> None:
        """Route series that were not seen before."""
        if len(series):
            named = await self._in_thread(lambda: _read_series(series))
            self._routing.add_series(series, named, self._feeds.values())

    async def _pass_on(self, part: Columns, registry: SeriesRegistry) -> None:
        """Pass the points of a part to the feeds of their series."""
        offsets = part.offsets.tolist()
        for count, (index, route) in enumerate(self._routing.find(part.ids), 1):
            unit = registry.unit(route.series.metric_name)
            points = SeriesPoints(route.series, part, offsets[index], offsets[index + 1], unit)
            for feed in route.feeds:
                feed.add(points)
            if count % SERIES_AT_ONCE == 0:
                await asyncio.sleep(0)


def _read(position: StreamPosition | None, has_failed: bool) -> tuple[NextCommits, SeriesRegistry]:
    # First: a definition applies to the commits after its own.
    registry = current_registry()
    return read_next_commits(position, verifies_epoch=has_failed), registry


def _read_series(ids: Ints) -> list[tuple[int, StreamedSeries]]:
    with read_connection() as connection:
        return read_series(connection, ids)


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
    if _follower is not None:
        _follower.close()
    _follower = None
