"""NATS JetStream: binary CloudEvents, in order, without duplicates within the duplicate window of the streams.

Each connection is used until it fails and never reconnects by itself: a client that reconnects sends what is left in
its buffer first, so events after a lost one would arrive before it. After a failure a new connection sends everything
again from the first event without an acknowledgement; JetStream drops what it has already by `Nats-Msg-Id`.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from nats.aio.client import Client
from nats.js import JetStreamContext, api
from nats.js.errors import NotFoundError

from telemetry_site.bus.cloud_event import CloudEvent
from telemetry_site.bus.event_loop import EventLoopThread
from telemetry_site.bus.nats_connection import CALL_TIMEOUT, connect, error_text
from telemetry_site.bus.nats_server import read_sync_interval
from telemetry_site.bus.targets.nats_publisher import WRONG_LAST_MESSAGE, Acknowledgement, Publisher
from telemetry_site.bus.targets.target import Delivery, Stream, TargetUnavailable

ACKNOWLEDGE_TIMEOUT = 5.0  # seconds
DUPLICATE_WINDOW = 3600  # seconds
_DAY = 86_400
_LIMITS = {
    Stream.EVENTS: {"max_age": 30 * _DAY, "discard": api.DiscardPolicy.NEW},
    Stream.DATA: {"max_age": _DAY, "max_bytes": 1024**3, "discard": api.DiscardPolicy.OLD},
}


class NatsTarget:
    """Publishes to the streams EVENTS and DATA, and creates them if they do not exist."""

    name = "nats"
    streams: Sequence[Stream] = (Stream.EVENTS, Stream.DATA)
    drops_duplicates_for = DUPLICATE_WINDOW / 2

    def __init__(self, url: str, prefix: str, monitoring_url: str) -> None:
        self._url, self._prefix, self._monitoring_url = url, prefix, monitoring_url
        self._loop: EventLoopThread | None = None
        self._client: Client | None = None
        self._publisher: Publisher | None = None

    def open(self) -> None:
        self.close()
        self._loop = EventLoopThread("nats")
        try:
            self._client = self._run(connect(self._url, "relay"))
            self._publisher = Publisher(self._client)
            self._run(self._publisher.start())
            self._run(self._create_streams())
        except Exception as error:
            self.close()
            raise TargetUnavailable(error_text(error)) from error

    def newest_id(self, stream: Stream) -> str | None:
        try:
            return self._run(self._read_newest_id(stream))
        except Exception as error:
            raise TargetUnavailable(error_text(error)) from error

    def send(self, stream: Stream, events: Sequence[CloudEvent]) -> Delivery:
        try:
            return self._run(self._publish(stream, events))
        except Exception as error:
            raise TargetUnavailable(error_text(error)) from error

    def sync_interval(self) -> str:
        return read_sync_interval(self._monitoring_url)

    def close(self) -> None:
        if self._loop is not None:
            self._loop.close(self._disconnect())
        self._loop = self._client = self._publisher = None

    def stream_name(self, stream: Stream) -> str:
        return stream_name(self._prefix, stream)

    def subject(self, stream: Stream, event: CloudEvent) -> str:
        """Return the NATS subject of an event."""
        kind = event.type.removeprefix("telemetry.data.") if stream is Stream.DATA else event.type
        return f"{self._prefix}.{stream.value}.{kind}"

    def _run(self, coroutine: Any) -> Any:
        assert self._loop is not None
        return self._loop.run(coroutine)

    async def _disconnect(self) -> None:
        if self._client is not None:
            await asyncio.wait_for(self._client.close(), CALL_TIMEOUT)

    @property
    def _jetstream(self) -> JetStreamContext:
        assert self._client is not None
        return self._client.jetstream(timeout=CALL_TIMEOUT)

    async def _create_streams(self) -> None:
        for stream, limits in _LIMITS.items():
            name = self.stream_name(stream)
            try:
                await self._jetstream.stream_info(name)
            except NotFoundError:
                config = api.StreamConfig(
                    name=name,
                    subjects=[f"{self._prefix}.{stream.value}.>"],
                    duplicate_window=DUPLICATE_WINDOW,
                    storage=api.StorageType.FILE,
                    **limits,  # type: ignore[arg-type]  # each has its own type
                )
                await self._jetstream.add_stream(config)

    async def _read_newest_id(self, stream: Stream) -> str | None:
        name = self.stream_name(stream)
        info = await self._jetstream.stream_info(name)
        if not info.state.messages:
            return None
        message = await self._jetstream.get_msg(name, info.state.last_seq)
        return (message.headers or {}).get("Nats-Msg-Id")

    async def _publish(self, stream: Stream, events: Sequence[CloudEvent]) -> Delivery:
        assert self._client is not None
        assert self._publisher is not None
        acknowledgements: list[asyncio.Future[Acknowledgement]] = []
        refused = ""
        for event, before in zip(events, [None, *events[:-1]], strict=True):
            headers = event.headers() | {"Nats-Msg-Id": event.id}
            if before is not None:  # so that nothing is stored after an event that was not
                headers["Nats-Expected-Last-Msg-Id"] = before.id
            size = len(event.data) + sum(len(name) + len(value) + 4 for name, value in headers.items()) + 12
            if size > self._client.max_payload:
                refused = f"{size:,} bytes; the NATS server accepts {self._client.max_payload:,}"
                break
            sending = self._publisher.publish(self.subject(stream, event), event.data, headers)
            acknowledgements.append(await asyncio.wait_for(sending, ACKNOWLEDGE_TIMEOUT))
        if acknowledgements:
            await asyncio.wait(acknowledgements, timeout=ACKNOWLEDGE_TIMEOUT)
        count, error = _acknowledged(acknowledgements)
        for late in acknowledgements:
            late.cancel()
        return Delivery(count, error, "" if error or count < len(acknowledgements) else refused)


def stream_name(prefix: str, stream: Stream) -> str:
    """Return the name of a JetStream stream: EVENTS or DATA, and with another prefix PREFIX_EVENTS or PREFIX_DATA."""
    return stream.name if prefix == "telemetry" else f"{prefix.upper()}_{stream.name}"


def _acknowledged(acknowledgements: Sequence["asyncio.Future[Acknowledgement]"]) -> tuple[int, str]:
    """Return how many of the first events were stored, and the error of the next one."""
    for count, future in enumerate(acknowledgements):
        if not future.done():
            return count, f"no acknowledgement within {ACKNOWLEDGE_TIMEOUT:g} s"
        answer = future.result()
        if answer.error_code == WRONG_LAST_MESSAGE and count:
            # The event before is an older duplicate, so the order cannot be checked: the next window starts here.
            return count, ""
        if answer.error:
            return count, answer.error
    return len(acknowledgements), ""
