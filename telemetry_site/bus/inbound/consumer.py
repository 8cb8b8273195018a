"""The pull consumer of events from other services: a thread in every worker with NATS_URL.

A message is acknowledged after its transaction has committed. An invalid one is parked at once, one that fails
MAX_DELIVER times is parked then; while the database does not answer, the message waits and no attempt is counted.
"""

import logging
import threading
import time
import zlib
from collections.abc import Callable
from typing import Any

import nats.errors
from django.db import InterfaceError, OperationalError, close_old_connections, connection
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import api
from nats.js.client import JetStreamContext
from nats.js.errors import NotFoundError

from metrics.storage.connection import dedicated_connection
from metrics.storage.errors import StorageUnavailable
from telemetry_site.bus import parked_messages
from telemetry_site.bus.event_loop import EventLoopThread
from telemetry_site.bus.event_source import event_source
from telemetry_site.bus.inbound.handlers import find_handler, forget_handled, handle
from telemetry_site.bus.inbound.incoming_event import IncomingEvent, InvalidEvent, read_event
from telemetry_site.bus.models import Direction, ParkedMessage
from telemetry_site.bus.nats_connection import CALL_TIMEOUT, connect, error_text

log = logging.getLogger(__name__)

MAX_DELIVER = 6
MAX_ACK_PENDING = 64
ACK_WAIT = 60  # seconds
BACKOFF = (1, 5, 15, 60, 300)  # seconds until the next attempt
FETCH_TIMEOUT = 1.0  # seconds; also how long a stop can take
BATCH = 16
RETRY_INTERVAL = 2.0  # seconds
CREATED_STREAM_DAYS = 30
FORGET_INTERVAL = 3600.0  # seconds
_UNAVAILABLE = (OperationalError, InterfaceError, StorageUnavailable)


class InboundLoop(threading.Thread):
    """Receives events of other services until it is stopped. Any number of processes share the messages."""

    def __init__(self, url: str, prefix: str, subjects: str, backoff: tuple[float, ...] = BACKOFF) -> None:
        super().__init__(name="bus inbound", daemon=True)
        self._url, self._prefix, self._subjects, self._backoff = url, prefix, subjects, backoff
        self._stopping = threading.Event()
        self._forgot_at = 0.0
        self.last_error = ""

    def run(self) -> None:
        while not self._stopping.is_set():
            loop = EventLoopThread("nats inbound")
            client: Client | None = None
            try:
                client = loop.run(connect(self._url, "inbound"))
                self._receive(loop, client)
            except Exception as error:  # whatever it is, the next connection tries again
                self._log_error(error)
            finally:
                loop.close(_close(client))
                close_old_connections()
            self._stopping.wait(RETRY_INTERVAL)
        connection.close()

    def request_stop(self) -> None:
        self._stopping.set()

    @property
    def durable_name(self) -> str:
        """The name of the consumer; another one for other subjects, since those of a consumer cannot change."""
        return f"{self._prefix}-inbound-{zlib.crc32(self._subjects.encode()):08x}"

    def _log_error(self, error: Exception) -> None:
        text = error_text(error)
        if text != self.last_error:
            log.warning("bus inbound: waiting for NATS: %s", text)
        self.last_error = text

    def _receive(self, loop: EventLoopThread, client: Client) -> None:
        jetstream = client.jetstream(timeout=CALL_TIMEOUT)
        stream = loop.run(find_or_create_stream(jetstream, self._prefix, self._subjects))
        subscription = loop.run(
            jetstream.pull_subscribe(
                self._subjects,
                durable=self.durable_name,
                stream=stream,
                config=api.ConsumerConfig(
                    durable_name=self.durable_name,
                    filter_subject=self._subjects,
                    deliver_policy=api.DeliverPolicy.ALL,
                    ack_policy=api.AckPolicy.EXPLICIT,
                    ack_wait=ACK_WAIT,
                    max_deliver=MAX_DELIVER,
                    max_ack_pending=MAX_ACK_PENDING,
                ),
            )
        )
        self.last_error = ""
        while not self._stopping.is_set():
            try:
                messages = loop.run(subscription.fetch(BATCH, timeout=FETCH_TIMEOUT))
            except nats.errors.TimeoutError:
                if not client.is_connected:
                    raise
                messages = []
            for message in messages:
                self._process(loop, message)
            self._forget_now_and_then()

    def _process(self, loop: EventLoopThread, message: Msg) -> None:
        """Process a message and acknowledge it, wait for the next attempt, or park it."""
        while True:
            try:
                answer = self._attempt(message)
                break
            except _UNAVAILABLE as error:
                log.warning("bus inbound: waiting for the database: %s", str(error).split("\n")[0])
                close_old_connections()
                loop.run(message.in_progress())
                if self._stopping.wait(RETRY_INTERVAL):
                    return  # the message is delivered again after ACK_WAIT
        loop.run(answer())

    def _attempt(self, message: Msg) -> Callable[[], Any]:
        """Process a message once; return the call that answers it."""
        place = f"{message.metadata.stream}:{message.metadata.sequence.stream}"
        is_last = message.metadata.num_delivered >= MAX_DELIVER
        try:
            event = read_event(message.subject, message.headers or {}, message.data, place)
            if self._is_own(message.subject, event) or find_handler(event.type) is None:
                return message.ack
            if is_last:  # so that a message that ends the process is parked all the same
                self._park(message, event, f"the process ended during the last of {MAX_DELIVER} attempts")
            handle(event)
        except InvalidEvent as error:
            self._park(message, None, str(error))
            return message.term
        except _UNAVAILABLE:
            raise
        except Exception as error:
            log.exception("bus inbound: %s failed at attempt %d", place, message.metadata.num_delivered)
            if is_last:
                self._park(message, None, f"failed {MAX_DELIVER} times: {type(error).__name__}: {error}")
                return message.term
            delay = self._backoff[min(message.metadata.num_delivered, len(self._backoff)) - 1]
            return lambda: message.nak(delay=delay)
        if is_last:
            ParkedMessage.objects.filter(direction=Direction.INBOUND, message_id=place).delete()
        return message.ack

    def _is_own(self, subject: str, event: IncomingEvent) -> bool:
        return subject.startswith(f"{self._prefix}.") or event.source == event_source()

    def _park(self, message: Msg, event: IncomingEvent | None, reason: str) -> None:
        metadata = message.metadata
        with dedicated_connection() as database:
            parked_messages.park(
                database, Direction.INBOUND, metadata.stream, f"{metadata.stream}:{metadata.sequence.stream}", reason,
                message.data, event_type=event.type if event else _type_hint(message), subject=message.subject,
                headers=message.headers, attempts=metadata.num_delivered or 1,
            )  # fmt: skip
        log.warning("bus inbound: message %s is parked: %s", metadata.sequence.stream, reason)

    def _forget_now_and_then(self) -> None:
        if time.monotonic() - self._forgot_at > FORGET_INTERVAL or not self._forgot_at:
            self._forgot_at = time.monotonic()
            forget_handled()


def _type_hint(message: Msg) -> str:
    return (message.headers or {}).get("ce-type", "")


async def find_or_create_stream(jetstream: JetStreamContext, prefix: str, subjects: str) -> str:
    """Return the stream that has the subjects; create one if there is none."""
    try:
        return await jetstream.find_stream_name_by_subject(subjects)
    except NotFoundError:
        pass
    name = "SERVICES" if prefix == "telemetry" else f"{prefix.upper()}_SERVICES"
    await jetstream.add_stream(
        api.StreamConfig(
            name=name, subjects=[subjects], max_age=CREATED_STREAM_DAYS * 86_400, storage=api.StorageType.FILE
        )
    )
    return name


async def _close(client: Client | None) -> None:
    if client is not None:
        await client.close()
