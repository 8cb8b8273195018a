"""Seeded workload of hosts and IoT devices: random walks, counters, switches and constant values."""

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

KINDS = (
    "cpu_pct", "mem_pct", "load1", "temp_c", "net_rx_bytes", "net_tx_bytes",
    "disk_used_pct", "door_open", "link_up", "latency_ms",
)  # fmt: skip
WHOLE = {"net_rx_bytes", "net_tx_bytes", "door_open", "link_up"}  # kinds without decimals
Floats = NDArray[np.float64]


def _reflect(x: Floats, lo: float, hi: float) -> Floats:
    """Reflect a random walk at the bounds [lo, hi]."""
    span = hi - lo
    y = np.mod(x - lo, 2 * span)
    return lo + np.where(y > span, 2 * span - y, y)


def series_values(kind: str, rng: np.random.Generator, d: int, t: int) -> Floats:
    """Return the values of one kind as float64[d devices, t ticks]."""
    if kind == "cpu_pct":
        v = rng.uniform(5, 60, (d, 1)) + np.cumsum(rng.normal(0, 1.5, (d, t)), 1)
        return np.round(_reflect(v, 0, 100), 2)
    if kind == "mem_pct":
        v = rng.uniform(20, 80, (d, 1)) + np.cumsum(rng.normal(0, 0.05, (d, t)), 1)
        return np.round(_reflect(v, 0, 100), 2)
    if kind == "load1":
        e = rng.normal(0, 0.08, (d, t))
        v = np.empty((d, t))
        x = rng.uniform(0.1, 3, d)
        mean = x.copy()
        for i in range(t):
            x = x + 0.05 * (mean - x) + e[:, i]
            v[:, i] = x
        return np.round(np.abs(v), 2)
    if kind == "temp_c":
        s = rng.choice([-1, 0, 0, 0, 0, 1], (d, t)).cumsum(1) * 0.0625
        return np.round(rng.uniform(15, 45, (d, 1)) + s, 2)
    if kind in ("net_rx_bytes", "net_tx_bytes"):
        inc = np.floor(rng.lognormal(9, 1.5, (d, t)))
        inc[rng.random((d, t)) < 0.2] = 0
        return np.floor(rng.uniform(0, 1e9, (d, 1))) + np.cumsum(inc, 1)
    if kind == "disk_used_pct":
        step = np.where(rng.random((d, t)) < 0.01, rng.normal(0.02, 0.02, (d, t)), 0)
        return np.round(np.clip(rng.uniform(10, 85, (d, 1)) + np.cumsum(step, 1), 0, 100), 2)
    if kind == "door_open":
        return (np.cumsum(rng.random((d, t)) < 0.003, 1) % 2).astype(float)
    if kind == "link_up":
        return (rng.random((d, t)) > 0.0005).astype(float)
    if kind == "latency_ms":
        return np.round(rng.lognormal(1.5, 0.5, (d, t)), 2)
    raise ValueError(kind)


class Workload:
    """`devices` with ten metrics each, as points and as texts.

    A point of each series every `step` seconds, `ticks` points from `start` (seconds since 1970).
    """

    def __init__(self, devices: int, ticks: int, start: int, step: int = 10, seed: int = 1) -> None:
        self.devices, self.ticks, self.step = devices, ticks, step
        self.names = [f"dev{number:05d}" for number in range(devices)]
        self.times = start + step * np.arange(ticks)
        self.values = [
            series_values(kind, np.random.default_rng([seed, number]), devices, ticks)
            for number, kind in enumerate(KINDS)
        ]
        self.texts = [
            [[str(int(v)) if kind in WHOLE else repr(v) for v in row] for row in values.tolist()]
            for kind, values in zip(KINDS, self.values, strict=True)
        ]
        self.stamps = [datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for t in self.times.tolist()]

    @property
    def points(self) -> int:
        return self.devices * len(KINDS) * self.ticks

    def batches(self, size: int, connections: int) -> Iterator[tuple[int, list[tuple[int, int, int]]]]:
        """Yield (connection, [(device, metric, tick)]); connections have separate devices and alternate.

        Within a connection the order is that of a collector: by time, device, metric.
        """
        streams = [self._stream(range(number, self.devices, connections), size) for number in range(connections)]
        while streams:
            for number, stream in enumerate(streams):
                batch = next(stream, None)
                if batch is None:
                    return  # the other connections end in the same round
                yield number, batch

    def _stream(self, devices: range, size: int) -> Iterator[list[tuple[int, int, int]]]:
        coordinates = itertools.product(range(self.ticks), devices, range(len(KINDS)))
        while batch := [(device, metric, tick) for tick, device, metric in itertools.islice(coordinates, size)]:
            yield batch
