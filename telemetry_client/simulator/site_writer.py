"""Sends arrivals to a site: bulk requests over several connections."""

import gzip
import http.client
import json
import queue
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from telemetry_client.simulator.encoders import encode_points
from telemetry_client.simulator.events import Arrival
from telemetry_client.simulator.progress import RunResult, SimulatorError

BULK_PATH = "/api/v1/telemetry/bulk"
MAX_BATCH = 50_000  # points, that sites accept
MAX_CONNECTIONS = 64
ATTEMPTS = 6
TIMEOUT = 60.0  # seconds
_QUEUE_LENGTH = 2  # requests that wait for a connection
_RETRY_STATUSES = (429, 502, 503, 504)
_MAX_WAIT = 60.0  # seconds before a retry

Body = dict[str, list[str]]


class SiteWriter:
    """Sends points in requests of about `batch` points, each device over one connection so that its order is kept.

    A request is sent again after 429, 502, 503 and 504, for which `Retry-After` counts, and after a broken connection.
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
        self._senders = [_Sender(url, key, self, sleep) for _ in range(connections)]
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

    def count_retry(self) -> None:
        with self._lock:
            self._result.retries += 1


class _Sender(threading.Thread):
    """A thread with one connection."""

    def __init__(self, url: str, key: str, writer: SiteWriter, sleep: Callable[[float], None]) -> None:
        super().__init__(name="simulator", daemon=True)
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SimulatorError(f"site must be a URL such as http://127.0.0.1:8218, not {url!r}")
        self._is_secure, self._netloc = parts.scheme == "https", parts.netloc
        self._url, self._path = url, parts.path.rstrip("/") + BULK_PATH
        self._headers = {"Content-Type": "application/json", "Content-Encoding": "gzip", "X-Api-Key": key}
        self._writer, self._sleep = writer, sleep
        self._connection: http.client.HTTPConnection | None = None
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
        if self._connection is not None:
            self._connection.close()

    def _send(self, body: Body) -> None:
        data = ",".join(f"{json.dumps(device)}:[{','.join(points)}]" for device, points in body.items())
        packed = gzip.compress(f"{{{data}}}".encode(), 1, mtime=0)
        problem = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                self._writer.count_retry()
            try:
                status, headers, answer = self._post(packed)
            except (OSError, http.client.HTTPException) as error:
                problem, wait = f"cannot be reached ({error})", 2.0**attempt / 4
            else:
                if status not in _RETRY_STATUSES:
                    self._read_answer(status, answer, sum(map(len, body.values())))
                    return
                problem = f"answers {status} ({_detail(answer)})"
                wait = _retry_after(headers.get("Retry-After"), 2.0**attempt / 4)
            if attempt < ATTEMPTS - 1:
                self._sleep(wait)
        raise SimulatorError(f"{self._url} {problem} after {ATTEMPTS} attempts")

    def _post(self, data: bytes) -> tuple[int, http.client.HTTPMessage, bytes]:
        if self._connection is None:
            kind = http.client.HTTPSConnection if self._is_secure else http.client.HTTPConnection
            self._connection = kind(self._netloc, timeout=TIMEOUT)
        try:
            self._connection.request("POST", self._path, data, self._headers)
            response = self._connection.getresponse()
            return response.status, response.headers, response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            self._connection = None
            raise

    def _read_answer(self, status: int, answer: bytes, points: int) -> None:
        document = _read_json(answer)
        if status == 200 and "failed_count" in document:
            if document["failed_count"]:
                self._writer.count(document["failed_count"], _first_error(document))
        elif status in (400, 422) and document.get("errors"):  # not one point is valid
            self._writer.count(points, _first_error(document))
        elif status in (401, 403):
            raise SimulatorError(f"{self._url} does not accept the key: {_detail(answer)} ({status})")
        else:
            raise SimulatorError(f"{self._url} answers {status}: {_detail(answer)}")


def _read_json(answer: bytes) -> dict[str, Any]:
    try:
        document = json.loads(answer)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _detail(answer: bytes) -> str:
    detail = _read_json(answer).get("detail")
    return str(detail) if detail else "no answer of a telemetry site; is the URL right?"


def _first_error(document: dict[str, Any]) -> str:
    errors = document.get("errors") or [{}]
    return ": ".join(str(errors[0][name]) for name in ("device_id", "field", "detail") if name in errors[0])


def _retry_after(value: str | None, default: float) -> float:
    try:
        return min(max(float(value or default), 0.0), _MAX_WAIT)
    except ValueError:
        return default
