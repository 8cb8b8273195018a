"""Clients of live streams, in processes of their own: WebSockets that read, a writer, and connections that abort.

They share the machine with the site, so they decode only the frame headers and search each frame for one series.
All times are of the system-wide monotonic clock, so that those of different processes can be compared.
"""

import asyncio
import base64
import itertools
import json
import multiprocessing
import os
import resource
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from typing import Any, cast

import uvloop

from benchmarks.loadgen import request

CONTINUATION, TEXT, CLOSE, PING, PONG = 0, 1, 8, 9, 10
CONNECTS_AT_ONCE = 50
COMMAND_TIMEOUT = 120.0  # seconds
API = "/api/v1/telemetry"

# The series: device d000 to d099 with metrics m0 to m9. Batch n has every BATCHES_PER_ROUND-th series, with value n.
DEVICES, METRICS = 100, 10
SERIES = DEVICES * METRICS
BATCHES_PER_ROUND = 4
BATCH_SIZE = SERIES // BATCHES_PER_ROUND


def series_name(number: int) -> tuple[str, str]:
    return f"d{number // METRICS:03d}", f"m{number % METRICS}"


@dataclass(frozen=True)
class Viewer:
    """A WebSocket to open: its path, its API key, and the series to search for in each frame."""

    path: str
    key: str
    series: int = 0


def handshake(path: str, key: str) -> bytes:
    """Build the request that opens a WebSocket."""
    headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", base64.b64encode(os.urandom(16)).decode()),
        ("X-Api-Key", key),
    ]
    return request("GET", path, headers=headers)


def split_frames(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    """Yield the (opcode, payload) of each complete frame and remove it from the buffer."""
    while len(buffer) >= 2:
        size, start = buffer[1] & 0x7F, 2
        if size >= 126:
            kind, start = ("!H", 4) if size == 126 else ("!Q", 10)
            if len(buffer) < start:
                return
            [size] = struct.unpack_from(kind, buffer, 2)
        if len(buffer) < start + size:
            return
        opcode, payload = buffer[0] & 0x0F, bytes(memoryview(buffer)[start : start + size])
        del buffer[: start + size]
        yield opcode, payload


def masked_frame(opcode: int, payload: bytes) -> bytes:
    """Build a frame of a client, with a mask of zeros and at most 125 bytes."""
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + bytes(4) + payload


class ReadingSocket(asyncio.Protocol):
    """A WebSocket that records when it received which value of its series."""

    def __init__(self, viewer: Viewer, opened: asyncio.Future[None]) -> None:
        self._viewer, self._opened = viewer, opened
        device, metric = series_name(viewer.series)
        self._mark = f'"device_id":"{device}","metric_name":"{metric}"'.encode()
        self._buffer = bytearray()
        self._is_open = False
        self.received: list[tuple[float, float]] = []  # (time, value)
        self.frames = self.bytes = 0
        self.close_code: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(handshake(self._viewer.path, self._viewer.key))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._is_open and not self._read_head():
            return
        for opcode, payload in split_frames(self._buffer):
            if opcode in (TEXT, CONTINUATION):
                self._read_frame(payload)
            elif opcode == PING:
                self.transport.write(masked_frame(PONG, payload))
            elif opcode == CLOSE:
                [self.close_code] = struct.unpack_from("!H", payload) if len(payload) >= 2 else (1005,)
                self.transport.close()

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        self._is_open = self._buffer.startswith(b"HTTP/1.1 101")
        if not self._is_open and not self._opened.done():
            self._opened.set_exception(RuntimeError(f"{self._viewer.path}: {bytes(self._buffer[:200])!r}"))
        del self._buffer[: end + 4]
        return self._is_open

    def _read_frame(self, payload: bytes) -> None:
        self.frames += 1
        self.bytes += len(payload)
        at = payload.find(self._mark)
        if at >= 0:
            start = payload.index(b'"value":', at) + 8
            end = min(end for end in (payload.find(b",", start), payload.find(b"}", start)) if end > 0)
            self.received.append((time.perf_counter(), float(payload[start:end])))
        if not self._opened.done():
            self._opened.set_result(None)  # the snapshot has arrived

    def connection_lost(self, error: Exception | None) -> None:
        self.close_code = self.close_code or 1006
        if not self._opened.done():
            self._opened.set_exception(RuntimeError(f"{self._viewer.path}: closed with {self.close_code}"))


@dataclass
class Received:
    """Values that the sockets of a process received since the last call: (time, value) by socket."""

    values: list[list[tuple[float, float]]]
    frames: int
    bytes: int
    close_codes: dict[int, int] = field(default_factory=dict)


async def open_sockets(port: int, viewers: Sequence[Viewer]) -> list[ReadingSocket]:
    """Open the WebSockets and wait for the first frame of each."""
    loop, slots = asyncio.get_running_loop(), asyncio.Semaphore(CONNECTS_AT_ONCE)

    async def open_socket(viewer: Viewer) -> ReadingSocket:
        async with slots, asyncio.timeout(COMMAND_TIMEOUT):
            opened: asyncio.Future[None] = loop.create_future()
            _, protocol = await loop.create_connection(lambda: ReadingSocket(viewer, opened), "127.0.0.1", port)
            await opened
            return protocol

    return list(await asyncio.gather(*map(open_socket, viewers)))


def take_received(sockets: Sequence[ReadingSocket]) -> Received:
    result = Received([], sum(each.frames for each in sockets), sum(each.bytes for each in sockets))
    for each in sockets:
        result.values.append(each.received)
        each.received, each.frames, each.bytes = [], 0, 0
        if each.close_code is not None:
            result.close_codes[each.close_code] = result.close_codes.get(each.close_code, 0) + 1
    return result


def run_readers(commands: Connection, port: int, viewers: Sequence[Viewer]) -> None:
    """Open the sockets, then answer `take` with the received values, until `stop`."""

    async def run() -> None:
        sockets = await open_sockets(port, viewers)
        commands.send("ready")
        while await asyncio.to_thread(commands.recv) == "take":
            commands.send(take_received(sockets))
        for each in sockets:
            each.transport.abort()
        await asyncio.sleep(0)
        commands.send("stopped")

    raise_file_limit()
    uvloop.run(run())


def run_writer(commands: Connection, port: int, key: str, points_per_second: int) -> None:
    """Send batches at a constant rate; answer `take` with {batch number: time of the answer}, until `stop`."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    headers = [("X-Api-Key", key), ("Content-Type", "application/json")]
    answers: dict[int, float] = {}
    due = time.perf_counter()
    commands.send("ready")
    for number in itertools.count(1):
        if commands.poll(max(0.0, due - time.perf_counter())):
            command = commands.recv()
            commands.send(answers)
            answers = {}
            if command == "stop":
                return
            time.sleep(max(0.0, due - time.perf_counter()))
        connection.sendall(request("POST", f"{API}/bulk", batch_body(number), headers))
        _read_answer(connection)
        answers[number] = time.perf_counter()
        due += BATCH_SIZE / points_per_second


def batch_body(number: int) -> bytes:
    """Return batch `number`: every BATCHES_PER_ROUND-th series with the current time and the value `number`."""
    moment = datetime.now(UTC).isoformat(timespec="microseconds")
    devices: dict[str, list[dict[str, Any]]] = {}
    for series in range(number % BATCHES_PER_ROUND, SERIES, BATCHES_PER_ROUND):
        device, metric = series_name(series)
        devices.setdefault(device, []).append({"timestamp": moment, "metric_name": metric, "value": number})
    return json.dumps(devices).encode()


def _read_answer(connection: socket.socket) -> None:
    data = b""
    while b"\r\n\r\n" not in data:
        data += _receive(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    size = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    while len(body) < size:
        body += _receive(connection)
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"a batch was rejected: {head[:20]!r} {body[:300]!r}")


def _receive(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise RuntimeError("the site closed the connection of the writer")
    return data


class SilentSocket:
    """A WebSocket that never reads, with a small receive buffer."""

    def __init__(self, port: int, viewer: Viewer) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.settimeout(30)
        self._socket.connect(("127.0.0.1", port))
        self.local_port = int(self._socket.getsockname()[1])
        self._socket.sendall(handshake(viewer.path, viewer.key))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self._socket.recv(1)
        assert head.startswith(b"HTTP/1.1 101"), head

    def read_close_code(self) -> int:
        """Read everything that is left and return the close code; 1006 if the connection ends without one."""
        buffer, code = bytearray(), 1006
        try:
            while data := self._socket.recv(65536):
                buffer += data
                for opcode, payload in split_frames(buffer):
                    if opcode == CLOSE and len(payload) >= 2:
                        [code] = struct.unpack_from("!H", payload)
        except OSError:
            pass
        finally:
            self._socket.close()
        return code


def run_aborts(commands: Connection, port: int, viewers: Sequence[Viewer], cycles: int) -> None:
    """Connect and abort `cycles` times, each time at another stage of the connection."""

    async def read_nothing(reader: asyncio.StreamReader) -> None:
        return None

    async def read_head(reader: asyncio.StreamReader) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async def read_frame(reader: asyncio.StreamReader) -> None:
        await read_head(reader)
        await reader.read(1)

    def sse(viewer: Viewer) -> bytes:
        return request("GET", viewer.path.replace("/ws/", "/sse/"), headers=[("X-Api-Key", viewer.key)])

    def websocket(viewer: Viewer) -> bytes:
        return handshake(viewer.path, viewer.key)

    stages: list[tuple[Callable[[Viewer], bytes], Callable[[asyncio.StreamReader], Any]]] = [
        (lambda viewer: b"", read_nothing),
        (lambda viewer: websocket(viewer)[:40], read_nothing),
        (websocket, read_nothing),
        (websocket, read_head),
        (websocket, read_frame),
        (sse, read_head),
        (sse, read_frame),
    ]

    async def abort_connections(numbers: Iterator[int]) -> None:
        for number in numbers:
            build, read = stages[number % len(stages)]
            async with asyncio.timeout(COMMAND_TIMEOUT):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(build(viewers[number % len(viewers)]))
                await read(reader)
                # A reset instead of an orderly end, as of a machine that disappears.
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()

    async def run() -> None:
        numbers = iter(range(cycles))
        await asyncio.gather(*(abort_connections(numbers) for _ in range(CONNECTS_AT_ONCE)))

    raise_file_limit()
    uvloop.run(run())
    commands.send("ready")


def raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class ClientProcess:
    """A function of this module in a process of its own."""

    def __init__(self, function: Callable[..., None], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._commands, theirs = context.Pipe()
        self._process = context.Process(target=function, args=(theirs, *arguments), daemon=True)
        self._process.start()
        theirs.close()
        self._answer()  # ready

    def take(self) -> Any:
        """Return what the process has recorded since the last call."""
        self._commands.send("take")
        return self._answer()

    def stop(self) -> Any:
        self._commands.send("stop")
        result = self._answer()
        self.join()
        return result

    def join(self) -> None:
        self._process.join(COMMAND_TIMEOUT)

    def _answer(self) -> Any:
        if not self._commands.poll(COMMAND_TIMEOUT):
            raise RuntimeError(f"{self._process.name} does not answer")
        return self._commands.recv()
