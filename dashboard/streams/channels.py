"""The channels of /ws/live: which events a stream receives, in their order and never more than its caller may see.

Each event is encoded once, however many streams receive it.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from weakref import WeakValueDictionary

from dashboard.streams import frames
from dashboard.streams.access import user_id_of
from dashboard.streams.figures import CHANNEL as DASHBOARD
from dashboard.streams.figures import FiguresKey, figures_feed
from dashboard.streams.socket_writer import MAX_EVENTS, SocketWriter
from metrics.events.event import channel_of, seen_by_everyone
from metrics.events.reader import StoredEvent
from metrics.models import Device
from metrics.storage.series_registry import cached_registry
from metrics.streams.event_follower import EventBatch, LostReason, event_follower
from rest.caller import Caller

CHANNELS = ("alerts", "dashboard", "definitions", "devices", "jobs")
DEFINITIONS = "definitions"
COUNTED_CHANNELS = ("alerts", "devices")  # whose events change the figures of the dashboard
MAX_UNINTERRUPTED = 5_000  # frames passed on before other tasks of the event loop run


class Verdict(Enum):
    """Part of an event that a stream receives: nothing, the event, or only a note that something changed."""

    HIDDEN = 0
    VISIBLE = 1
    CHANGED = 2


@dataclass(frozen=True, slots=True, eq=False)
class Visibility:
    """Which events a caller sees, at a revision of keys, memberships and devices.

    device_ids  None: all
    user_id     None: not a user, so no private events
    """

    revision: int
    key: FiguresKey
    device_ids: frozenset[str] | None
    user_id: int | None

    def judge(self, event: StoredEvent) -> Verdict:
        """Return what the caller gets of an event."""
        if event.owner_id is not None:
            return Verdict.VISIBLE if event.owner_id == self.user_id else Verdict.HIDDEN
        if self.device_ids is None:
            return Verdict.VISIBLE
        if event.device_id is not None:
            return Verdict.VISIBLE if event.device_id in self.device_ids else Verdict.HIDDEN
        if seen_by_everyone(event.type):
            return Verdict.VISIBLE
        # Rules and silences may name foreign devices; the caller reads through the API what concerns its own.
        return Verdict.CHANGED if channel_of(event.type) == DEFINITIONS else Verdict.HIDDEN


_device_sets: WeakValueDictionary[tuple[FiguresKey, int], frozenset[str]] = WeakValueDictionary()


def read_visibility(caller: Caller, owner: str) -> Visibility:
    """Return what a caller sees now; callers of the same groups share the set of devices. Reads the database."""
    revision, key = cached_registry().revision, FiguresKey.of(caller)  # before the devices: later changes are noticed
    device_ids: frozenset[str] | None = None
    if caller.device_id is not None:
        device_ids = frozenset((caller.device_id,))
    elif not caller.sees_all:
        device_ids = _device_sets.get((key, revision))
        if device_ids is None:
            device_ids = frozenset(Device.objects.visible_to(caller).values_list("device_id", flat=True))
            _device_sets[key, revision] = device_ids
    return Visibility(revision, key, device_ids, user_id_of(owner))


def clear_device_sets() -> None:
    """Forget which devices callers see."""
    _device_sets.clear()


class ChannelEvent:
    """An event of a channel with its frame, which all streams share."""

    def __init__(self, event: StoredEvent, channel: str, position: str, revision: int) -> None:
        self.event, self.channel, self.position, self.revision = event, channel, position, revision

    @cached_property
    def frame(self) -> bytes:
        return frames.event(self.channel, self.position, self.event.envelope())


def channel_events(events: Iterable[StoredEvent], position: str, revision: int) -> list[ChannelEvent]:
    """Return the events that belong to a channel."""
    return [
        ChannelEvent(event, channel, position, revision)
        for event in events
        if (channel := channel_of(event.type)) is not None
    ]


class EventSink:
    """The channels of one stream. Holds events while missed ones are read, or while rights are older than an event."""

    def __init__(self, writer: SocketWriter, visibility: Visibility) -> None:
        self._writer = writer
        self.visibility = visibility
        self.channels: frozenset[str] = frozenset()
        self._held: deque[ChannelEvent] = deque()
        self._loading = 0
        self._has_overflow = False

    def offer(self, event: ChannelEvent) -> None:
        """Take an event of any channel; never waits."""
        if event.channel not in self.channels:
            return
        if self._loading or self._held or self._is_newer(event):
            if len(self._held) >= MAX_EVENTS:
                self._held.clear()
                self._has_overflow = True
            self._held.append(event)
            return
        self._pass_on(event)

    def hold(self) -> None:
        """Hold events until `release`, while those are read that the client missed."""
        self._loading += 1

    def accepts(self, event: ChannelEvent) -> bool:
        """Return whether the stream gets anything of an event."""
        return event.channel in self.channels and self.visibility.judge(event.event) is not Verdict.HIDDEN

    def release(self, missed: Sequence[ChannelEvent] = ()) -> None:
        """Pass on missed events, and then what was held, without repeats."""
        self._loading -= 1
        known = {event.event.id for event in missed}
        self._held = deque([*missed, *(event for event in self._held if event.event.id not in known)])
        self._drain()

    def apply(self, visibility: Visibility) -> None:
        """Replace the visibility, and pass on the events that waited for it."""
        self.visibility = visibility
        self._drain()

    def resync(self, reason: str, channel: str | None = None) -> None:
        """Make the client read its data again, which includes the events that were held."""
        self._held.clear()
        self._has_overflow = False
        self._writer.offer_event(frames.resync(reason, channel))

    def _drain(self) -> None:
        if self._loading:
            return
        if self._has_overflow:
            self._has_overflow = False
            self._writer.offer_event(frames.resync("overflow"))
        while self._held and not self._is_newer(self._held[0]):
            event = self._held.popleft()
            if event.channel in self.channels:
                self._pass_on(event)

    def _is_newer(self, event: ChannelEvent) -> bool:
        """Return whether rights may have changed before the event, which the visibility does not have yet."""
        return self.visibility.device_ids is not None and event.revision > self.visibility.revision

    def _pass_on(self, event: ChannelEvent) -> None:
        verdict = self.visibility.judge(event.event)
        if verdict is Verdict.VISIBLE:
            self._writer.offer_event(event.frame, event.position)
        elif verdict is Verdict.CHANGED:
            self._writer.offer_event(frames.resync("changed", event.channel))


class ChannelHub:
    """Passes events to the streams of one process."""

    def __init__(self) -> None:
        self._sinks: set[EventSink] = set()
        self._follower = event_follower()

    async def attach(self, sink: EventSink) -> str:
        """Pass events to a sink; return the position from which it gets all."""
        self._sinks.add(sink)
        await self._follower.attach(self)
        return self._follower.position

    def detach(self, sink: EventSink) -> None:
        self._sinks.discard(sink)
        if not self._sinks:
            self._follower.detach(self)

    # --- the listener of the event follower ---------------------------------------------------------

    async def deliver(self, batch: EventBatch) -> None:
        """Pass events to the sinks whose channels and visibility match."""
        passed_on = 0
        for channel_event in channel_events(batch.events, batch.position, batch.revision):
            for sink in tuple(self._sinks):
                sink.offer(channel_event)
            self._note_figures(channel_event)
            passed_on += len(self._sinks)
            if passed_on > MAX_UNINTERRUPTED:
                passed_on = 0
                await asyncio.sleep(0)

    def lost(self, reason: LostReason) -> None:
        """Make every stream read its data again."""
        for sink in tuple(self._sinks):
            if sink.channels:
                sink.resync(reason)

    def _note_figures(self, event: ChannelEvent) -> None:
        """Compute the figures soon of those who see an event that changes them."""
        if event.channel not in COUNTED_CHANNELS:
            return
        keys = {
            sink.visibility.key
            for sink in self._sinks
            if DASHBOARD in sink.channels and sink.visibility.judge(event.event) is Verdict.VISIBLE
        }
        for key in keys:
            figures_feed().note_event(key, of_device=event.channel == "devices")


_hub: ChannelHub | None = None


def channel_hub() -> ChannelHub:
    """Return the hub of this process."""
    global _hub
    if _hub is None:
        _hub = ChannelHub()
    return _hub


def reset_channels() -> None:
    """Discard the hub; the next stream starts a new one."""
    global _hub
    _hub = None
