"""Sensors of this machine. Each yields its measurements or raises, which does not affect the others."""

import logging
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import psutil  # type: ignore[import-untyped,unused-ignore]

from ingest.collectors.clock import CollectorClock

log = logging.getLogger(__name__)

MEBI = 2**20
MEGA = 1_000_000
GIGA = 1_000_000_000
MAX_TEMPERATURES = 8  # a large server has a hundred
LOOPBACK = {"lo", "lo0"}  # not a network; carries the collector's own requests


class Measurement(NamedTuple):
    """One measurement."""

    metric: str
    value: float
    unit: str


Sensor = Callable[[], Iterable[Measurement]]


class CounterRate:
    """The rate of a counter between two readings."""

    def __init__(self, clock: CollectorClock) -> None:
        self._clock = clock
        self._last: tuple[float, float] | None = None

    def update(self, total: float) -> float | None:
        """Return the increase per second since the last reading; None at first and after a reset of the counter."""
        now, last = self._clock.monotonic(), self._last
        self._last = (now, total)
        if last is None or now <= last[0] or total < last[1]:
            return None
        return (total - last[1]) / (now - last[0])


def cpu() -> Iterator[Measurement]:
    yield Measurement("cpu_percent", psutil.cpu_percent(), "%")


def memory() -> Iterator[Measurement]:
    usage = psutil.virtual_memory()
    yield Measurement("memory_percent", usage.percent, "%")
    yield Measurement("memory_used_mb", round(usage.used / MEBI, 1), "MiB")
    yield Measurement("memory_total_mb", round(usage.total / MEBI, 1), "MiB")


def swap() -> Iterator[Measurement]:
    yield Measurement("swap_percent", psutil.swap_memory().percent, "%")


def disk() -> Iterator[Measurement]:
    usage = psutil.disk_usage("/")
    yield Measurement("disk_percent", usage.percent, "%")
    yield Measurement("disk_used_gb", round(usage.used / GIGA, 3), "GB")
    yield Measurement("disk_total_gb", round(usage.total / GIGA, 3), "GB")


def load() -> Iterator[Measurement]:
    for metric, value in zip(("load_avg_1m", "load_avg_5m", "load_avg_15m"), os.getloadavg(), strict=True):
        yield Measurement(metric, round(value, 2), "")


def processes() -> Iterator[Measurement]:
    yield Measurement("process_count", len(psutil.pids()), "")


def connections(snmp: Path = Path("/proc/net/snmp")) -> Iterator[Measurement]:
    """Yield the kernel's count of TCP connections. Listing them would open the files of every process."""
    if not snmp.exists():
        return
    names, values = (line.split() for line in snmp.read_text().splitlines() if line.startswith("Tcp:"))
    yield Measurement("active_connections", int(values[names.index("CurrEstab")]), "")


def temperatures() -> Iterator[Measurement]:
    read = getattr(psutil, "sensors_temperatures", None)  # not on every system
    if read is not None:
        yield from named_temperatures(read())


Temperature = tuple[str, float, float | None, float | None]


def named_temperatures(chips: Mapping[str, Iterable[Temperature]]) -> Iterator[Measurement]:
    """Measurements of (label, °C, high, critical) by chip; repeated names get a number."""
    seen: dict[str, int] = {}
    for chip, label, celsius in ((chip, entry[0], entry[1]) for chip, entries in chips.items() for entry in entries):
        if len(seen) == MAX_TEMPERATURES:
            return
        name = "temperature_" + re.sub(r"[^a-z0-9]+", "_", f"{chip} {label}".lower()).strip("_")
        seen[name] = seen.get(name, 0) + 1
        yield Measurement(name if seen[name] == 1 else f"{name}_{seen[name]}", celsius, "°C")


class Uptime:
    """Seconds since the machine started."""

    def __init__(self, clock: CollectorClock) -> None:
        self._clock = clock

    def __call__(self) -> Iterator[Measurement]:
        yield Measurement("uptime_seconds", round(self._clock.time() - psutil.boot_time()), "s")


class DiskRates:
    """Megabytes per second read from and written to the disks."""

    def __init__(self, clock: CollectorClock) -> None:
        self._read, self._written = CounterRate(clock), CounterRate(clock)

    def __call__(self) -> Iterator[Measurement]:
        counters = psutil.disk_io_counters()
        if counters is None:  # a container without disks of its own
            return
        if (rate := self._read.update(counters.read_bytes)) is not None:
            yield Measurement("disk_read_mb_per_sec", round(rate / MEGA, 4), "MB/s")
        if (rate := self._written.update(counters.write_bytes)) is not None:
            yield Measurement("disk_write_mb_per_sec", round(rate / MEGA, 4), "MB/s")


class Network:
    """Bytes, and megabits per second, of all interfaces but the loopback."""

    def __init__(self, clock: CollectorClock) -> None:
        self._received, self._sent = CounterRate(clock), CounterRate(clock)

    def __call__(self) -> Iterator[Measurement]:
        cards = [card for name, card in psutil.net_io_counters(pernic=True).items() if name not in LOOPBACK]
        received, sent = sum(card.bytes_recv for card in cards), sum(card.bytes_sent for card in cards)
        yield Measurement("network_rx_bytes", received, "B")
        yield Measurement("network_tx_bytes", sent, "B")
        if (rate := self._received.update(received)) is not None:
            yield Measurement("network_rx_rate_mbps", round(rate * 8 / MEGA, 4), "Mbit/s")
        if (rate := self._sent.update(sent)) is not None:
            yield Measurement("network_tx_rate_mbps", round(rate * 8 / MEGA, 4), "Mbit/s")


def host_sensors(clock: CollectorClock) -> dict[str, Sensor]:
    """Return the sensors of this machine by name."""
    return {
        "cpu": cpu,
        "memory": memory,
        "swap": swap,
        "disk": disk,
        "disk rates": DiskRates(clock),
        "network": Network(clock),
        "load": load,
        "processes": processes,
        "connections": connections,
        "uptime": Uptime(clock),
        "temperatures": temperatures,
    }


class Sensors:
    """All sensors, read together. A failing sensor is logged once, and once more when it works again."""

    def __init__(self, sensors: Mapping[str, Sensor]) -> None:
        self._sensors = sensors
        self._failing: set[str] = set()

    def read(self) -> list[Measurement]:
        measurements: list[Measurement] = []
        for name, sensor in self._sensors.items():
            try:
                measurements += [value for value in sensor() if math.isfinite(value.value)]
            except Exception as error:  # psutil and the kernel may raise anything
                if name not in self._failing:
                    log.warning("sensor %s cannot be read: %s", name, error or type(error).__name__)
                self._failing.add(name)
            else:
                if name in self._failing:
                    log.info("sensor %s can be read again", name)
                self._failing.discard(name)
        return measurements
