"""Encode a workload as HTTP requests for the site and for InfluxDB; write at a constant rate."""

import http.client
import itertools
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.loadgen import request
from benchmarks.servers import HEADERS
from benchmarks.workload import KINDS, Workload

API = "/api/v1/telemetry"
Request = tuple[int, int, bytes]  # (connection, points, HTTP request)


def _point(load: Workload, device: int, metric: int, tick: int) -> str:
    value = load.texts[metric][device][tick]
    return f'{{"timestamp":"{load.stamps[tick]}","metric_name":"{KINDS[metric]}","value":{value}}}'


def bulk(load: Workload, size: int, connections: int, limit: int | None = None) -> Iterator[Request]:
    """Yield `/bulk` requests with points of many devices."""
    for connection, batch in itertools.islice(load.batches(size, connections), limit):
        devices: dict[int, list[str]] = {}
        for device, metric, tick in batch:
            devices.setdefault(device, []).append(_point(load, device, metric, tick))
        body = ",".join(f'"{load.names[device]}":[{",".join(points)}]' for device, points in devices.items())
        yield connection, len(batch), request("POST", f"{API}/bulk", f"{{{body}}}".encode(), HEADERS)


def batch(load: Workload, size: int, limit: int | None = None) -> Iterator[Request]:
    """Yield batch requests of one device after the other."""
    return itertools.islice(_batches(load, size), limit)


def _batches(load: Workload, size: int) -> Iterator[Request]:
    for device, name in enumerate(load.names):
        coordinates = [(metric, tick) for tick in range(load.ticks) for metric in range(len(KINDS))]
        for first in range(0, len(coordinates), size):
            points = coordinates[first : first + size]
            body = ",".join(_point(load, device, metric, tick) for metric, tick in points)
            path = f"{API}/devices/{name}/telemetry/batch"
            yield 0, len(points), request("POST", path, f'{{"data_points":[{body}]}}'.encode(), HEADERS)


def single(load: Workload, limit: int) -> Iterator[Request]:
    """Yield requests with one point each."""
    coordinates = itertools.product(range(load.ticks), range(load.devices), range(len(KINDS)))
    for tick, device, metric in itertools.islice(coordinates, limit):
        path = f"{API}/devices/{load.names[device]}/telemetry"
        yield 0, 1, request("POST", path, _point(load, device, metric, tick).encode(), HEADERS)


def line_protocol(load: Workload, size: int, connections: int) -> Iterator[Request]:
    """Yield the same batches in line protocol: one measurement per metric, the device as a tag."""
    for connection, points in load.batches(size, connections):
        body = "".join(
            f"{KINDS[metric]},device={load.names[device]} value={load.texts[metric][device][tick]} {load.times[tick]}\n"
            for device, metric, tick in points
        )
        yield connection, len(points), request("POST", "/write?db=bench&precision=s", body.encode())


class PacedWriter:
    """Send the requests of a file repeatedly at a constant number of points per second, within a `with` block."""

    def __init__(self, port: int, file: Path, points_per_second: int) -> None:
        self.port, self.pace, self.rate = port, points_per_second, 0.0
        self._requests = list(_parse_requests(file.read_bytes()))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "PacedWriter":
        self._thread.start()
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.connect()
        assert connection.sock is not None
        started, sent = time.monotonic(), 0
        for points, data in itertools.cycle(self._requests):
            if self._ended.wait(max(0.0, started + sent / self.pace - time.monotonic())):
                break
            connection.sock.sendall(data)
            response = http.client.HTTPResponse(connection.sock, method="POST")
            response.begin()
            response.read()
            sent += points
        self.rate = sent / (time.monotonic() - started)
        connection.close()


def _parse_requests(data: bytes) -> Iterable[tuple[int, bytes]]:
    position = 4
    while position < len(data):
        _, points, length = struct.unpack_from("<III", data, position)
        yield points, data[position + 12 : position + 12 + length]
        position += 12 + length
