"""A workload as HTTP requests, for the site and for InfluxDB; and a writer at a steady pace."""

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
Request = tuple[int, int, bytes]  # connection, points, bytes


def _point(load: Workload, device: int, metric: int, tick: int) -> str:
    value = load.texts[metric][device][tick]
    return f'{{"timestamp":"{load.stamps[tick]}","metric_name":"{KINDS[metric]}","value":{value}}}'


def bulk(load: Workload, size: int, connections: int, most: int | None = None) -> Iterator[Request]:
    """Points of many devices to `/bulk`."""
    for connection, batch in itertools.islice(load.batches(size, connections), most):
        devices: dict[int, list[str]] = {}
        for device, metric, tick in batch:
            devices.setdefault(device, []).append(_point(load, device, metric, tick))
        body = ",".join(f'"{load.names[device]}":[{",".join(points)}]' for device, points in devices.items())
        yield connection, len(batch), request("POST", f"{API}/bulk", f"{{{body}}}".encode(), HEADERS)


def batch(load: Workload, size: int, most: int | None = None) -> Iterator[Request]:
    """Points of one device after the other to its `/telemetry/batch`."""
    return itertools.islice(_batches(load, size), most)


def _batches(load: Workload, size: int) -> Iterator[Request]:
    for device, name in enumerate(load.names):
        places = [(metric, tick) for tick in range(load.ticks) for metric in range(len(KINDS))]
        for first in range(0, len(places), size):
            some = places[first : first + size]
            body = ",".join(_point(load, device, metric, tick) for metric, tick in some)
            path = f"{API}/devices/{name}/telemetry/batch"
            yield 0, len(some), request("POST", path, f'{{"data_points":[{body}]}}'.encode(), HEADERS)


def single(load: Workload, most: int) -> Iterator[Request]:
    """One point a request."""
    places = itertools.product(range(load.ticks), range(load.devices), range(len(KINDS)))
    for tick, device, metric in itertools.islice(places, most):
        path = f"{API}/devices/{load.names[device]}/telemetry"
        yield 0, 1, request("POST", path, _point(load, device, metric, tick).encode(), HEADERS)


def line_protocol(load: Workload, size: int, connections: int) -> Iterator[Request]:
    """The same batches for InfluxDB: one measurement a metric, the device a tag."""
    for connection, some in load.batches(size, connections):
        body = "".join(
            f"{KINDS[metric]},device={load.names[device]} value={load.texts[metric][device][tick]} {load.times[tick]}\n"
            for device, metric, tick in some
        )
        yield connection, len(some), request("POST", "/write?db=bench&precision=s", body.encode())


class Paced:
    """Requests of a file, over and over, at so many points a second, while the context lasts."""

    def __init__(self, port: int, file: Path, points_per_second: int) -> None:
        self.port, self.pace, self.rate = port, points_per_second, 0.0
        self._requests = list(_records(file.read_bytes()))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Paced":
        self._thread.start()
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.connect()
        assert connection.sock is not None
        began, sent = time.monotonic(), 0
        for points, data in itertools.cycle(self._requests):
            if self._ended.wait(max(0.0, began + sent / self.pace - time.monotonic())):
                break
            connection.sock.sendall(data)
            answer = http.client.HTTPResponse(connection.sock, method="POST")
            answer.begin()
            answer.read()
            sent += points
        self.rate = sent / (time.monotonic() - began)
        connection.close()


def _records(data: bytes) -> Iterable[tuple[int, bytes]]:
    place = 4
    while place < len(data):
        _, points, length = struct.unpack_from("<III", data, place)
        yield points, data[place + 12 : place + 12 + length]
        place += 12 + length
