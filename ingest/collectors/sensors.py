"""What can be measured of the machine this runs on. Each sensor gives its readings or raises; nothing else suffers."""

import logging
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import psutil  # type: ignore[import-untyped,unused-ignore]

from ingest.collectors.clock import Clock

logger = logging.getLogger(__name__)

MEBI = 2**20
MEGA = 1_000_000
GIGA = 1_000_000_000
MOST_TEMPERATURES = 8  # a large server has a hundred; the first of each chip tell enough
LOOPBACK = {"lo", "lo0"}  # carries our own requests among others, and no network


class Reading(NamedTuple):
    """One measurement."""

    metric: str
    value: float
    unit: str


Sensor = Callable[[], Iterable[Reading]]


class Rate:
    """How fast a counter grows from one look to the next."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last: tuple[float, float] | None = None

    def of(self, total: float) -> float | None:
        """Per second since the look before; None at first, and where the counter began anew."""
        now, last = self._clock.monotonic(), self._last
        self._last = (now, total)
        if last is None or now <= last[0] or total < last[1]:
            return None
        return (total - last[1]) / (now - last[0])


def cpu() -> Iterator[Reading]:
    yield Reading("cpu_percent", psutil.cpu_percent(), "%")


def memory() -> Iterator[Reading]:
    found = psutil.virtual_memory()
    yield Reading("memory_percent", found.percent, "%")
    yield Reading("memory_used_mb", round(found.used / MEBI, 1), "MiB")
    yield Reading("memory_total_mb", round(found.total / MEBI, 1), "MiB")


def swap() -> Iterator[Reading]:
    yield Reading("swap_percent", psutil.swap_memory().percent, "%")


def disk() -> Iterator[Reading]:
    found = psutil.disk_usage("/")
    yield Reading("disk_percent", found.percent, "%")
    yield Reading("disk_used_gb", round(found.used / GIGA, 3), "GB")
    yield Reading("disk_total_gb", round(found.total / GIGA, 3), "GB")


def load() -> Iterator[Reading]:
    for metric, value in zip(("load_avg_1m", "load_avg_5m", "load_avg_15m"), os.getloadavg(), strict=True):
        yield Reading(metric, round(value, 2), "")


def processes() -> Iterator[Reading]:
    yield Reading("process_count", len(psutil.pids()), "")


def connections(snmp: Path = Path("/proc/net/snmp")) -> Iterator[Reading]:
    """Established TCP connections as the kernel counts them. Listing them would open every process's files."""
    if not snmp.exists():
        return
    names, values = (line.split() for line in snmp.read_text().splitlines() if line.startswith("Tcp:"))
    yield Reading("active_connections", int(values[names.index("CurrEstab")]), "")


def temperatures() -> Iterator[Reading]:
    read = getattr(psutil, "sensors_temperatures", None)  # not on every system
    if read is not None:
        yield from named_temperatures(read())


Temperature = tuple[str, float, float | None, float | None]


def named_temperatures(chips: Mapping[str, Iterable[Temperature]]) -> Iterator[Reading]:
    """Readings of (label, °C, high, critical) by chip; of equal names the first keeps it and the next are numbered."""
    seen: dict[str, int] = {}
    for chip, label, celsius in ((chip, entry[0], entry[1]) for chip, entries in chips.items() for entry in entries):
        if len(seen) == MOST_TEMPERATURES:
            return
        name = "temperature_" + re.sub(r"[^a-z0-9]+", "_", f"{chip} {label}".lower()).strip("_")
        seen[name] = seen.get(name, 0) + 1
        yield Reading(name if seen[name] == 1 else f"{name}_{seen[name]}", celsius, "°C")


class Uptime:
    """Seconds since the machine started."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def __call__(self) -> Iterator[Reading]:
        yield Reading("uptime_seconds", round(self._clock.time() - psutil.boot_time()), "s")


class DiskRates:
    """Megabytes a second to and from the disks."""

    def __init__(self, clock: Clock) -> None:
        self._read, self._written = Rate(clock), Rate(clock)

    def __call__(self) -> Iterator[Reading]:
        found = psutil.disk_io_counters()
        if found is None:  # a container without disks of its own
            return
        if (rate := self._read.of(found.read_bytes)) is not None:
            yield Reading("disk_read_mb_per_sec", round(rate / MEGA, 4), "MB/s")
        if (rate := self._written.of(found.write_bytes)) is not None:
            yield Reading("disk_write_mb_per_sec", round(rate / MEGA, 4), "MB/s")


class Network:
    """Bytes and megabits a second over all interfaces but the loopback."""

    def __init__(self, clock: Clock) -> None:
        self._received, self._sent = Rate(clock), Rate(clock)

    def __call__(self) -> Iterator[Reading]:
        cards = [card for name, card in psutil.net_io_counters(pernic=True).items() if name not in LOOPBACK]
        received, sent = sum(card.bytes_recv for card in cards), sum(card.bytes_sent for card in cards)
        yield Reading("network_rx_bytes", received, "B")
        yield Reading("network_tx_bytes", sent, "B")
        if (rate := self._received.of(received)) is not None:
            yield Reading("network_rx_rate_mbps", round(rate * 8 / MEGA, 4), "Mbit/s")
        if (rate := self._sent.of(sent)) is not None:
            yield Reading("network_tx_rate_mbps", round(rate * 8 / MEGA, 4), "Mbit/s")


def host_sensors(clock: Clock) -> dict[str, Sensor]:
    """The sensors of this machine by name."""
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
    """All sensors, read together. One that fails is named once in the log, and once more when it works again."""

    def __init__(self, sensors: Mapping[str, Sensor]) -> None:
        self._sensors = sensors
        self._failing: set[str] = set()

    def read(self) -> list[Reading]:
        found: list[Reading] = []
        for name, sensor in self._sensors.items():
            try:
                found += [reading for reading in sensor() if math.isfinite(reading.value)]
            except Exception as error:  # psutil and the kernel raise what they like
                if name not in self._failing:
                    logger.warning("sensor %s cannot be read: %s", name, error or type(error).__name__)
                self._failing.add(name)
            else:
                if name in self._failing:
                    logger.info("sensor %s can be read again", name)
                self._failing.discard(name)
        return found
