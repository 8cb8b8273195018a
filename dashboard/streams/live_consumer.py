"""The stream /ws/live and /sse/live: channels of events, dashboard figures and any number of data subscriptions."""

import asyncio
import logging
from typing import Any

from dashboard.streams import frames
from dashboard.streams.access import Access
from dashboard.streams.authentication import Parameters, Refused, in_thread
from dashboard.streams.channels import (
    DASHBOARD,
    ChannelEvent,
    EventSink,
    Visibility,
    channel_events,
    channel_hub,
    read_visibility,
)
from dashboard.streams.close_codes import FAILED, TOO_MANY_SUBSCRIPTIONS
from dashboard.streams.data_subscription import DataSubscription
from dashboard.streams.figures import FiguresKey, figures_feed
from dashboard.streams.live_messages import (
    Message,
    SubscribeChannels,
    SubscribeData,
    UnsubscribeChannels,
    parse_message,
)
from dashboard.streams.session import RESUME_FROM, InvalidMessage, StreamSession
from dashboard.streams.socket_writer import MAX_EVENTS, Closed, StreamTransport
from metrics.streams.event_follower import read_missed_events
from metrics.streams.positions import Position
from rest.caller import Caller

log = logging.getLogger(__name__)

MAX_SUBSCRIPTIONS = 200
DATA = "data"  # the client's name of the data subscription in the parameters of a URL
_LISTS = ("device_ids", "groups", "metric_names")


class LiveSession(StreamSession):
    """A stream whose client subscribes and unsubscribes by messages, or once by the parameters of its URL."""

    def __init__(
        self, transport: StreamTransport, access: Access, caller: Caller, parameters: Parameters, path: str
    ) -> None:
        super().__init__(transport, access, caller, parameters, path)
        self._hub, self._figures = channel_hub(), figures_feed()
        self._sink: EventSink | None = None
        self._data: dict[str, DataSubscription] = {}
        self._figures_key: FiguresKey | None = None
        self._changing = asyncio.Lock()  # messages and changed rights are applied one after the other
        self._applying: asyncio.Task[None] | None = None
        self._is_applying = False  # whether a change of rights waits to be applied

    async def open(self) -> None:
        for message in messages_of(self.parameters):
            await self._apply(parse_message(message))

    async def receive(self, message: dict[str, Any]) -> None:
        await self._apply(parse_message(message))

    async def _apply(self, message: Message) -> None:
        async with self._changing:
            if isinstance(message, SubscribeChannels):
                await self._subscribe_channels(message.channels, message.resume_from)
            elif isinstance(message, UnsubscribeChannels):
                self._unsubscribe_channels(message.channels)
            elif isinstance(message, SubscribeData):
                await self._subscribe_data(message)
            else:
                self._unsubscribe_data(message.subscription)

    # --- channels -----------------------------------------------------------------------------------

    async def _subscribe_channels(self, channels: frozenset[str], resume_from: Position | None) -> None:
        sink = self._sink
        if sink is None:
            sink = self._sink = EventSink(self.writer, await self._read_visibility())
        sink.hold()
        sink.channels |= channels
        attached_at = await self._hub.attach(sink)
        position = attached_at if resume_from is None else str(resume_from)
        self.writer.reply(frames.subscribed(sink.channels, position), position)
        missed: list[ChannelEvent] = []
        try:
            if resume_from is not None:
                missed = await self._read_missed_events(sink, resume_from)
        finally:
            sink.release(missed)
        if DASHBOARD in sink.channels:
            self._attach_figures(sink.visibility.key)

    async def _read_missed_events(self, sink: EventSink, resume_from: Position) -> list[ChannelEvent]:
        """Return the events since a position that the stream gets; if they are unknown or too many, send a resync."""
        missed = await asyncio.to_thread(read_missed_events, resume_from)
        # Until the last of them has arrived, a client that resumes again needs all of them again.
        events = channel_events(missed.events, str(resume_from), missed.revision)
        accepted = [event for event in events if sink.accepts(event)]
        if missed.lost is not None or len(accepted) > MAX_EVENTS:
            sink.resync(missed.lost or "overflow")
            return []
        if accepted:
            accepted[-1].position = missed.position
        return accepted

    def _unsubscribe_channels(self, channels: frozenset[str]) -> None:
        if self._sink is None:
            return
        self._sink.channels -= channels
        if DASHBOARD in channels:
            self._detach_figures()
        self.writer.reply(frames.subscribed(self._sink.channels, None))
        if not self._sink.channels:
            self._hub.detach(self._sink)
            self._sink = None

    async def _read_visibility(self) -> Visibility:
        visibility: Visibility = await in_thread(read_visibility, self.caller, self.access.owner)
        return visibility

    def _attach_figures(self, key: FiguresKey) -> None:
        if self._figures_key != key:
            self._detach_figures()
            self._figures_key = key
            self._figures.attach(key, self.writer.offer_dashboard)

    def _detach_figures(self) -> None:
        if self._figures_key is not None:
            self._figures.detach(self._figures_key, self.writer.offer_dashboard)
            self._figures_key = None

    # --- data ---------------------------------------------------------------------------------------

    async def _subscribe_data(self, message: SubscribeData) -> None:
        """Add a data subscription, or replace the one of the same name."""
        self._unsubscribe_data(message.subscription)
        if len(self._data) >= MAX_SUBSCRIPTIONS:
            raise Refused(TOO_MANY_SUBSCRIPTIONS)
        data = self._data[message.subscription] = DataSubscription(self, message.series, message.subscription)
        await data.start(message.resume_from)

    def _unsubscribe_data(self, subscription: str) -> None:
        data = self._data.pop(subscription, None)
        if data is not None:
            data.stop()

    # --- rights and the end -------------------------------------------------------------------------

    async def revision_changed(self) -> None:
        # In a task: a client that reads slowly must not delay the checks of other streams.
        if not self._is_applying:
            self._is_applying = True
            self._applying = asyncio.get_running_loop().create_task(self._apply_rights())

    async def _apply_rights(self) -> None:
        try:
            async with self._changing:
                self._is_applying = False
                await self._apply_visibility()
                for data in list(self._data.values()):
                    await data.apply_rights()
        except Closed:
            return
        except Exception:
            log.exception("changed rights cannot be applied to a stream")
            self.end(FAILED)

    async def _apply_visibility(self) -> None:
        if self._sink is None:
            return
        before, visibility = self._sink.visibility, await self._read_visibility()
        if before.device_ids != visibility.device_ids or before.user_id != visibility.user_id:
            self._sink.resync("rights")
            if self._figures_key is not None:
                self._attach_figures(visibility.key)
                self._figures.note_event(visibility.key, of_device=True)
        self._sink.apply(visibility)

    async def closed(self) -> None:
        if self._applying is not None:
            self._applying.cancel()
        self._detach_figures()
        for data in self._data.values():
            data.stop()
        self._data.clear()
        if self._sink is not None:
            self._hub.detach(self._sink)
            self._sink = None


def messages_of(parameters: Parameters) -> list[dict[str, Any]]:
    """Return the messages that subscribe to what the parameters of a URL name. Raises InvalidMessage.

    `channels`, `device_ids`, `groups` and `metric_names` have names separated by commas. Data is sent if one of the
    last three or `max_frequency` is there. `resume_from` applies to the channels.
    """
    accepted = ("channels", *_LISTS, "max_frequency", RESUME_FROM)
    unknown = next((name for name in parameters if name not in accepted), None)
    if unknown is not None:
        raise InvalidMessage(f"{unknown[:100]} is not a parameter; accepted are {', '.join(accepted)}")
    values = {name: texts[-1] for name, texts in parameters.items() if texts}
    messages: list[dict[str, Any]] = []
    if "channels" in values:
        channels = {"type": "subscribe", "channels": _split(values["channels"])}
        messages.append(channels | ({RESUME_FROM: values[RESUME_FROM]} if RESUME_FROM in values else {}))
    data: dict[str, Any] = {name: _split(values[name]) for name in _LISTS if name in values}
    if "max_frequency" in values:
        text = values["max_frequency"]
        data["max_frequency"] = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text
    if data:
        messages.append({"type": "subscribe", "subscription": DATA} | data)
    return messages


def _split(text: str) -> list[str]:
    return [name for name in text.split(",") if name]
