"""StatsD-style UDP input on the loopback: counters, gauges, timers and sets, summarised for each snapshot."""

from __future__ import annotations

import contextlib
import logging
import math
import socket
import threading
from typing import Any

log = logging.getLogger(__name__)
MAX_METRICS = 500  # names; more in one interval are ignored and counted
MAX_SAMPLES = 10_000  # of one timer or set in one interval
MAX_NAME_LENGTH = 180  # so that a suffix fits into the site's 200


class StatsdMetrics:
    """The values of one interval. Gauges keep their value for relative changes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: dict[str, float] = {}
        self._gauges: dict[str, float] = {}
        self._changed: set[str] = set()
        self._timers: dict[str, list[float]] = {}
        self._sets: dict[str, set[str]] = {}
        self.invalid = 0

    def add_packet(self, packet: bytes) -> None:
        """Add the lines `name:value|type[|@rate]` of a packet; invalid ones are counted."""
        for line in packet.decode("utf-8", "replace").splitlines():
            if line.strip():
                try:
                    with self._lock:
                        self._add(line.strip())
                except ValueError:
                    self.invalid += 1

    def _add(self, line: str) -> None:
        name, _, rest = line.partition(":")
        value, kind, *options = rest.split("|")
        if not 0 < len(name) <= MAX_NAME_LENGTH or not name.isprintable():
            raise ValueError("name")
        if kind == "s":
            values = self._of(self._sets, name, set())
            if len(values) < MAX_SAMPLES:
                values.add(value[:200])
            return
        number = float(value)
        rate = next((float(option[1:]) for option in options if option.startswith("@")), 1.0)
        if not math.isfinite(number) or not 0 < rate <= 1:
            raise ValueError("value")
        if kind == "c":
            self._counters[name] = self._of(self._counters, name, 0.0) + number / rate
        elif kind == "g":
            before = self._of(self._gauges, name, 0.0)
            self._gauges[name] = before + number if value[:1] in "+-" else number
            self._changed.add(name)
        elif kind in ("ms", "h", "d"):
            samples = self._of(self._timers, name, [])
            if len(samples) < MAX_SAMPLES:
                samples.append(number)
        else:
            raise ValueError("type")

    def _of(self, values: dict[str, Any], name: str, default: Any) -> Any:
        if name not in values:
            if len(self._counters) + len(self._gauges) + len(self._timers) + len(self._sets) >= MAX_METRICS:
                raise ValueError("too many names")
            values[name] = default
        return values[name]

    def take(self) -> dict[str, float]:
        """Return the fields of the interval and start the next one."""
        with self._lock:
            fields = dict(self._counters)
            fields.update({name: self._gauges[name] for name in self._changed})
            fields.update({name: float(len(values)) for name, values in self._sets.items()})
            for name, samples in self._timers.items():
                fields.update(_summary(name, sorted(samples)))
            self._counters, self._timers, self._sets, self._changed = {}, {}, {}, set()
        return {name: value for name, value in fields.items() if math.isfinite(value)}


def _summary(name: str, samples: list[float]) -> dict[str, float]:
    count = len(samples)
    return {
        f"{name}.count": float(count),
        f"{name}.mean": sum(samples) / count,
        f"{name}.p95": samples[math.ceil(0.95 * count) - 1],
        f"{name}.max": samples[-1],
    }


class StatsdServer:
    """Receives packets in a thread."""

    def __init__(self, port: int, metrics: StatsdMetrics) -> None:
        self._metrics = metrics
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.bind(("127.0.0.1", port))
        except OSError:
            self._socket.close()
            raise
        self.port: int = self._socket.getsockname()[1]
        self._is_closed = False
        self._thread = threading.Thread(target=self._receive, daemon=True, name="statsd")
        self._thread.start()

    def _receive(self) -> None:
        while not self._is_closed:
            try:
                packet = self._socket.recv(65536)
            except OSError:
                return
            self._metrics.add_packet(packet)

    def close(self) -> None:
        """Close the port after the packets that have arrived. A packet to itself ends the thread; closing does not."""
        self._is_closed = True
        with contextlib.suppress(OSError):
            self._socket.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join(1)
        self._socket.close()
