"""A recording site, a clock to set, and queues that are closed."""

import gzip
import http.server
import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import zstandard

from ingest.agent.clock_offset import ClockOffset
from ingest.agent.machine_clock import MachineClock
from ingest.agent.poster import TelemetryPoster
from ingest.agent.queue import TelemetryQueue
from ingest.agent.sender import POLL_TIME, Sender

STORED = b'{"success": true, "ingested_count": 1, "failed_count": 0, "errors": []}'
START = 1_800_000_000.0


def unpack_zstd(body: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(body)


class ManualClock(MachineClock):
    """A clock that advances only when told."""

    def __init__(self, now: float = START, up: float = 1000.0, boot: str = "0b" * 16) -> None:
        self.now, self.up, self.boot = now, up, boot

    def time(self) -> float:
        return self.now

    def uptime(self) -> float:
        return self.up

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.up += seconds


class RecordingSite:
    """A server that stores points as the site does: one value per device, time and metric.

    `answers` are given first: (status, headers, body).
    """

    def __init__(self) -> None:
        self.answers: deque[tuple[int, dict[str, str], bytes]] = deque()
        self.requests: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}  # answers to GET by path
        self.stored: dict[tuple[str, str, str], Any] = {}
        self.received: Counter[tuple[str, str, str]] = Counter()
        self.max_body = 16 * 1024 * 1024
        self.has_bulk = True
        self.date: float | None = None
        self.down_until = 0.0  # monotonic time until which connections are closed without an answer
        self.lock = threading.Lock()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that hang up
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if self.answers:
            return self.answers.popleft()
        if len(body) > self.max_body:
            return 413, {}, b'{"detail": "the body is too large"}'
        if path.endswith("bulk") and not self.has_bulk:
            return 404, {}, b"<h1>not found</h1>"
        document = json.loads(body)
        if path.endswith("bulk"):
            points = [
                (device, point["timestamp"], point["metric_name"], point["value"])
                for device, device_points in document.items()
                for point in device_points
            ]
        else:
            device, time = document.pop("node_id"), document.pop("timestamp")
            points = [(device, time, name, value) for name, value in document.items()]
        if any(name == "poison" for _, _, name, _ in points):
            return 422, {}, b'{"detail": "poison"}'
        with self.lock:
            for device, time, name, value in points:
                self.stored[device, time, name] = value
                self.received[device, time, name] += 1
        return 200, {}, STORED

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 5
            disable_nagle_algorithm = True  # else each answer takes 40 ms

            def do_GET(self) -> None:
                content = site.files.get(self.path, b'{"status": "alive"}')
                self.send_response_only(200)
                self.send_header("Date", formatdate(site.date, usegmt=True))
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if time.monotonic() < site.down_until:
                    self.close_connection = True
                    return
                body = {"gzip": gzip.decompress, "zstd": unpack_zstd}.get(self.headers["Content-Encoding"], bytes)(body)
                status, headers, content = site.answer(self.path, body)
                site.requests.append(
                    {
                        "path": self.path,
                        "key": self.headers["Authorization"],
                        "encoding": self.headers["Content-Encoding"],
                        "port": self.client_address[1],
                        "status": status,
                    }
                )
                self.send_response_only(status)
                self.send_header("Date", formatdate(site.date, usegmt=True))
                for name, value in ({"Content-Length": str(len(content))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def recording_site() -> Iterator[RecordingSite]:
    site = RecordingSite()
    yield site
    site.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


OpenQueue = Callable[..., TelemetryQueue]


@pytest.fixture
def open_queue(tmp_path: Path, clock: ManualClock) -> Iterator[OpenQueue]:
    """Return a function that opens the queue file of the test; it may be called again after `close`."""
    queues: list[TelemetryQueue] = []

    def open_file(**options: Any) -> TelemetryQueue:
        queues.append(TelemetryQueue(tmp_path / "queue.db", **{"clock": clock, **options}))
        return queues[-1]

    yield open_file
    for queue in queues:
        queue.close()


def snapshot(number: int, **fields: Any) -> dict[str, Any]:
    minute, second = divmod(number, 60)
    hour, minute = divmod(minute, 60)
    day, hour = divmod(hour, 24)
    time = f"2027-01-{15 + day:02}T{hour:02}:{minute:02}:{second:02}Z"
    return {"node_id": "box", "timestamp": time, "number": number, **fields}


def drain(queue: TelemetryQueue) -> list[int]:
    """Return the numbers of all snapshots and mark them sent."""
    numbers: list[int] = []
    while batch := queue.dequeue(100):
        numbers += [item.payload["number"] for item in batch]
        queue.mark_sent([item.id for item in batch])
    return numbers


PostTo = Callable[..., TelemetryPoster]


@pytest.fixture
def post_to() -> Iterator[PostTo]:
    posters: list[TelemetryPoster] = []

    def create(url: str, **options: Any) -> TelemetryPoster:
        posters.append(TelemetryPoster(url, **options))
        return posters[-1]

    yield create
    for poster in posters:
        poster.close()


@pytest.fixture
def sender(
    recording_site: RecordingSite, open_queue: OpenQueue, post_to: PostTo, clock: ManualClock
) -> tuple[Sender, TelemetryQueue]:
    queue = open_queue()
    offset = ClockOffset(queue, clock)
    poster = post_to(recording_site.url, timeout=5, on_date=offset.learn)
    recording_site.date = START
    return Sender(queue, poster, offset), queue


def send_all(sender: Sender) -> list[float]:
    """Send until the queue is empty; return the pauses."""
    pauses = []
    while (pause := sender.step()) != POLL_TIME:
        pauses.append(pause)
    return pauses


def numbers(site: RecordingSite) -> list[int]:
    return sorted(value for (_, _, name), value in site.stored.items() if name == "number")
