"""A data subscription of a stream: a snapshot or the missed points first, then the values of its feed."""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dashboard.streams import frames
from dashboard.streams.authentication import in_thread
from dashboard.streams.close_codes import FAILED, unavailable
from dashboard.streams.session import StreamSession
from dashboard.streams.socket_writer import Closed, SubscriptionSink
from ingest.identity.keys import members_of
from metrics.error_responses import EXPECTED_ERRORS
from metrics.streams.commit_follower import follower
from metrics.streams.encoding import to_value
from metrics.streams.feeds import Feed, FeedKey, newest_by_series
from metrics.streams.gaps import read_gap, read_snapshot
from metrics.streams.positions import Position
from rest.caller import Caller

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SeriesFilter:
    """The series that a client asks for; None means all."""

    device_ids: frozenset[str] | None
    groups: tuple[str, ...] | None
    metric_names: frozenset[str] | None
    tags: frozenset[tuple[str, Any]]
    max_frequency: int  # ms

    def feed_key(self, caller: Caller) -> FeedKey:
        """Return the feed of these series that a caller sees now. Reads the database."""
        devices = self.device_ids
        members = members_of(caller.narrowed(self.groups))
        if members is not None:
            devices = members if devices is None else devices & members
        if caller.device_id is not None:
            own = frozenset({caller.device_id})
            devices = own if devices is None else devices & own
        return FeedKey(devices, self.metric_names, self.tags, self.max_frequency)


class DataSubscription:
    """The feed of one subscription of a session; `name` is the client's, None on a stream of one subscription."""

    def __init__(self, session: StreamSession, series: SeriesFilter, name: str | None = None) -> None:
        self._session, self._series, self._name = session, series, name
        self._feed: Feed | None = None
        self._follower = follower()
        self._sink: SubscriptionSink | None = None
        self._restarting: asyncio.Task[None] | None = None

    async def start(self, resume_from: Position | None = None) -> None:
        """Send a snapshot, or every point since a position, and follow the feed."""
        sink, feed = await self._follow(await in_thread(self._series.feed_key, self._session.caller))
        if resume_from is None:
            await self._send_snapshot(sink, feed)
            return
        position = feed.position
        gap = await asyncio.to_thread(read_gap, feed.key, resume_from)
        if not gap.recovered:
            await self._send_snapshot(sink, feed, False, gap.reason)
            return
        feed.mark_sent(sink, gap.known)
        await self._send(sink, frames.gap(map(to_value, gap.values), position), position)
        sink.start(newest_by_series(gap.known))

    async def apply_rights(self) -> None:
        """Follow the series that the caller sees now; after a change a snapshot is sent."""
        key = await in_thread(self._series.feed_key, self._session.caller)
        if self._feed is None or key == self._feed.key:
            return
        self._leave()
        sink, feed = await self._follow(key)
        await self._send_snapshot(sink, feed)

    def stop(self) -> None:
        """Leave the feed."""
        if self._restarting is not None:
            self._restarting.cancel()
        self._leave()
        self._session.writer.remove_sink(self._name)

    async def _follow(self, key: FeedKey) -> tuple[SubscriptionSink, Feed]:
        feed = await self._follower.subscribe(key)
        if self._session.is_ending:
            self._follower.release(feed)
            raise Closed
        sink = self._session.writer.add_sink(self._restart, self._name)
        feed.attach(sink)
        self._feed, self._sink = feed, sink
        return sink, feed

    def _leave(self) -> None:
        if self._feed is not None and self._sink is not None:
            self._feed.detach(self._sink)
            self._follower.release(self._feed)
            self._feed = self._sink = None

    def _restart(self) -> None:
        """Send another snapshot after the feed has missed commits."""
        if self._restarting is None or self._restarting.done():
            self._restarting = asyncio.get_running_loop().create_task(self._send_again())

    async def _send_again(self) -> None:
        try:
            if self._feed is not None and self._sink is not None:
                await self._send_snapshot(self._sink, self._feed, False, "too_old")
        except Closed:
            return
        except EXPECTED_ERRORS as error:
            self._session.end(unavailable(str(error)))
        except Exception:
            log.exception("a snapshot of a live stream cannot be sent")
            self._session.end(FAILED)

    async def _send_snapshot(
        self, sink: SubscriptionSink, feed: Feed, recovered: bool | None = None, reason: str | None = None
    ) -> None:
        position = feed.position  # before the read: what is committed meanwhile reaches the feed too
        values = await asyncio.to_thread(read_snapshot, feed.key)
        feed.mark_sent(sink, values)
        await self._send(sink, frames.snapshot(map(to_value, values), position, recovered, reason), position)
        sink.start(newest_by_series(values))

    async def _send(self, sink: SubscriptionSink, sent: Iterable[bytes], position: str) -> None:
        await self._session.writer.send(sink.named(frame, position) for frame in sent)
