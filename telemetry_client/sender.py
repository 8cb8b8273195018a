"""Sends events to a site in batches from a bounded buffer; events wait while the site cannot take them."""

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from telemetry_client.config import TelemetryConfig
from telemetry_client.errors import BufferFull, ClientError, InvalidInput, Refused, Unreachable
from telemetry_client.site import Site

logger = logging.getLogger("telemetry_client")
MAX_BATCH = 1_000  # events of a request
EVENT_FIELDS = ("source", "type", "value")
FULL_TIMEOUT = 30.0  # seconds that an event waits for room in the buffer
FIRST_PAUSE, MAX_PAUSE = 0.5, 30.0  # seconds
FINAL = (400, 413, 422)  # repeating the request gives the same response


def check_event(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the event with its time. Raises InvalidInput."""
    if not isinstance(data, Mapping):
        raise InvalidInput("an event must be an object with source, type and value")
    for name in EVENT_FIELDS:
        if name not in data:
            raise InvalidInput(f"{name} is missing; an event has timestamp, source, type, value and status")
    return {"timestamp": time.time(), **data}


class Sender:
    """A buffer of events and the thread that sends them."""

    def __init__(self, site: Site, config: TelemetryConfig) -> None:
        self._site = site
        self._config = config
        self._events: deque[dict[str, Any]] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._deadline: float | None = None  # of the last events, once the thread has to end
        self._warned = False
        self.sent = 0
        self.rejected = 0

    @property
    def waiting(self) -> int:
        return len(self._events)

    def put(self, event: dict[str, Any]) -> None:
        """Add an event; wait for room while the thread runs. Raises BufferFull."""
        with self._changed:
            if self._is_full() and (
                self._thread is None or not self._changed.wait_for(lambda: not self._is_full(), FULL_TIMEOUT)
            ):
                size = self._config.buffer_size
                raise BufferFull(f"the buffer is full: {size} events wait, and the site takes none")
            self._events.append(event)
            self._warn_when_filled()
            if len(self._events) >= MAX_BATCH:
                self._changed.notify_all()

    def _is_full(self) -> bool:
        return len(self._events) >= self._config.buffer_size

    def _warn_when_filled(self) -> None:
        share = len(self._events) / self._config.buffer_size
        filled = share > self._config.alert_threshold
        if filled and not self._warned and self._thread is not None:
            logger.warning("the buffer is filled to %d %%", 100 * share)
        self._warned = filled

    def start(self) -> None:
        self._deadline = None
        self._thread = threading.Thread(target=self._run, name="telemetry-sender", daemon=True)
        self._thread.start()

    def stop(self, timeout: float) -> int:
        """Send what waits, for at most `timeout` seconds; return the number of events that are left."""
        with self._changed:
            self._deadline = time.monotonic() + timeout
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout)
            self._thread = None
        return self.waiting

    def _run(self) -> None:
        pause = 0.0
        while True:
            with self._changed:
                self._wait(pause)
                batch = [self._events[index] for index in range(min(MAX_BATCH, len(self._events)))]
                if self._deadline is not None and (not batch or time.monotonic() >= self._deadline):
                    return
            pause = 0.0 if not batch or self._send(batch) else min(max(2 * pause, FIRST_PAUSE), MAX_PAUSE)

    def _wait(self, pause: float) -> None:
        """Wait for a batch, or `pause` seconds if the site did not take the last one; shorter once stop() is called."""
        if self._deadline is not None:
            self._changed.wait_for(lambda: False, min(pause, max(0.0, self._deadline - time.monotonic())))
        elif pause:
            self._changed.wait_for(lambda: self._deadline is not None, pause)
        else:
            self._changed.wait_for(
                lambda: self._deadline is not None or len(self._events) >= MAX_BATCH, self._config.processing_interval
            )

    def _send(self, batch: list[dict[str, Any]]) -> bool:
        """Send a batch and remove it from the buffer; False if it has to be sent again."""
        try:
            receipt = self._site.post("/telemetry", batch)
            self.sent += receipt["ingested_count"]
            self._reject(receipt["failed_count"], receipt["errors"][:1])
        except Refused as error:
            if error.status not in FINAL:
                logger.warning("%s; %d events wait", error, self.waiting)
                return False
            self._reject(len(batch), error)
        except Unreachable as error:
            logger.warning("%s; %d events wait", error, self.waiting)
            return False
        except (ClientError, ValueError, TypeError) as error:  # values that JSON does not have
            self._reject(len(batch), error)
        with self._changed:
            for _ in batch:
                self._events.popleft()
            self._changed.notify_all()
        return True

    def _reject(self, count: int, cause: object) -> None:
        self.rejected += count
        if count:
            logger.warning("%d events were rejected: %s", count, cause)
