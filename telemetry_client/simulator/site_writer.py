"""Sends arrivals to a site: bulk requests over several connections."""

import json
import queue
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from telemetry_client.simulator.encoders import encode_points
from telemetry_client.simulator.events import Arrival
from telemetry_client.simulator.progress import RunResult, SimulatorError
from telemetry_client.simulator.site_connection import SiteConnection, unexpected

BULK_PATH = "bulk"
MAX_BATCH = 50_000  # points, that sites accept
MAX_CONNECTIONS = 64
_QUEUE_LENGTH = 2  # requests that wait for a connection

Body = dict[str, list[str]]


class SiteWriter:
    """Sends points in requests of about `batch` points, each device over one connection so that its order is kept.

    Raises SimulatorError for a URL, key or number that is not accepted, and if the site stays unreachable.
    """

    def __init__(
        self,
        url: str,
        key: str,
        result: RunResult,
        connections: int = 4,
        batch: int = 5000,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not 1 <= connections <= MAX_CONNECTIONS:
            raise SimulatorError(f"connections must be 1 to {MAX_CONNECTIONS}")
        if not 1 <= batch <= MAX_BATCH:
            raise SimulatorError(f"batch must be 1 to {MAX_BATCH} points")
        self._batch, self._result, self._lock = batch, result, threading.Lock()
        self._failure: SimulatorError | None = None
        self._senders = [_Sender(SiteConnection(url, key, sleep, self._count_retry), self) for _ in range(connections)]
        self._bodies: list[Body] = [{} for _ in self._senders]
        self._sizes = [0] * connections

    def __enter__(self) -> "SiteWriter":
        for sender in self._senders:
            sender.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.flush()
        for sender in self._senders:
            sender.finish()
        for sender in self._senders:
            sender.join()
        if error is None and self._failure is not None:
            raise self._failure

    def write(self, arrival: Arrival, limit: int | None) -> int:
        number = arrival.device.number % len(self._senders)
        points = encode_points(arrival)[:limit]
        for low in range(0, len(points), self._batch):
            part = points[low : low + self._batch]
            self._bodies[number].setdefault(arrival.device.device_id, []).extend(part)
            self._sizes[number] += len(part)
            if self._sizes[number] + len(part) > self._batch:
                self._send(number)
        return len(points)

    def flush(self) -> None:
        for number, size in enumerate(self._sizes):
            if size:
                self._send(number)

    def _send(self, number: int) -> None:
        body, self._bodies[number], self._sizes[number] = self._bodies[number], {}, 0
        while True:
            if self._failure is not None:
                raise self._failure
            try:
                self._senders[number].requests.put(body, timeout=0.2)
                return
            except queue.Full:
                continue

    def fail(self, error: SimulatorError) -> None:
        """Stop the run with an error; the first one counts."""
        with self._lock:
            self._failure = self._failure or error

    @property
    def has_failed(self) -> bool:
        return self._failure is not None

    def count(self, rejected: int, reason: str) -> None:
        with self._lock:
            self._result.rejected += rejected
            self._result.first_rejection = self._result.first_rejection or reason

    def _count_retry(self) -> None:
        with self._lock:
            self._result.retries += 1


class _Sender(threading.Thread):
    """A thread with one connection."""

    def __init__(self, connection: SiteConnection, writer: SiteWriter) -> None:
        super().__init__(name="simulator", daemon=True)
        self._connection, self._writer = connection, writer
        self.requests: queue.Queue[Body | None] = queue.Queue(_QUEUE_LENGTH)

    def finish(self) -> None:
        """End the thread after the waiting requests."""
        while self.is_alive():
            try:
                self.requests.put(None, timeout=0.2)
                return
            except queue.Full:
                continue

    def run(self) -> None:
        while (body := self.requests.get()) is not None:
            if self._writer.has_failed:
                continue  # so that the queue does not fill
            try:
                self._send(body)
            except SimulatorError as error:
                self._writer.fail(error)
            except Exception as error:  # the run would wait for this thread for ever
                self._writer.fail(SimulatorError(f"sending failed: {error!r}"))
        self._connection.close()

    def _send(self, body: Body) -> None:
        data = ",".join(f"{json.dumps(device)}:[{','.join(points)}]" for device, points in body.items())
        status, document = self._connection.post(BULK_PATH, f"{{{data}}}".encode(), is_ingestion=True)
        if status == 200 and "failed_count" in document:
            if document["failed_count"]:
                self._writer.count(document["failed_count"], _first_error(document))
        elif status in (400, 422) and document.get("errors"):  # not one point is valid
            self._writer.count(sum(map(len, body.values())), _first_error(document))
        else:
            raise unexpected(self._connection, status, document)


def _first_error(document: dict[str, Any]) -> str:
    errors = document.get("errors") or [{}]
    return ": ".join(str(errors[0][name]) for name in ("device_id", "field", "detail") if name in errors[0])
