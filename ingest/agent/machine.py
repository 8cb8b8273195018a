"""Readings of this machine: by psutil if it is installed, otherwise from /proc."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ingest.agent.machine_clock import MachineClock

try:
    import psutil  # type: ignore[import-untyped,unused-ignore]
except ImportError:
    psutil = None  # type: ignore[assignment,unused-ignore]

LOOPBACK = {"lo", "lo0"}
MAX_TEMPERATURES = 8
_PROC = Path("/proc")
_SYS_BLOCK = Path("/sys/block")
_HWMON = Path("/sys/class/hwmon")
_VIRTUAL_DISKS = ("loop", "ram", "zram", "dm-", "md")  # their bytes are those of other disks
_SECTOR = 512  # bytes, independent of the disk


class CpuTimes(NamedTuple):
    """Seconds or ticks since the machine's start."""

    busy: float
    total: float


class Memory(NamedTuple):
    """Bytes."""

    used: int
    total: int


class Traffic(NamedTuple):
    """Bytes of all interfaces but the loopback, since the machine's start."""

    received: int
    sent: int


class DiskIo(NamedTuple):
    """Bytes of all disks, since the machine's start."""

    read: int
    written: int


class Temperature(NamedTuple):
    """A reading of a chip in °C."""

    chip: str
    label: str
    celsius: float


def cpu_times() -> CpuTimes:
    if psutil is not None:
        times: Any = psutil.cpu_times()
        total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)  # part of user and nice
        return CpuTimes(total - times.idle - getattr(times, "iowait", 0.0), total)
    fields = [int(text) for text in (_PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]]
    return CpuTimes(sum(fields) - fields[3] - fields[4], sum(fields))


def memory() -> Memory:
    if psutil is not None:
        usage = psutil.virtual_memory()
        return Memory(usage.total - usage.available, usage.total)
    sizes = _memory_sizes()
    return Memory(sizes["MemTotal"] - sizes.get("MemAvailable", sizes["MemFree"]), sizes["MemTotal"])


def _memory_sizes() -> dict[str, int]:
    lines = (line.split() for line in (_PROC / "meminfo").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if len(words) > 1}


def swap_percent() -> float:
    if psutil is not None:
        return float(psutil.swap_memory().percent)
    sizes = _memory_sizes()
    total = sizes.get("SwapTotal", 0)
    return 100 * (total - sizes.get("SwapFree", 0)) / total if total else 0.0


def disk() -> tuple[int, int, float]:
    """Return bytes used and total of the root file system, and the used percentage of the space for users."""
    usage = shutil.disk_usage("/")
    usable = usage.used + usage.free
    return usage.used, usage.total, 100 * usage.used / usable if usable else 0.0


def disk_io() -> DiskIo | None:
    """Return the bytes read and written; None in a container without disks of its own."""
    if psutil is not None:
        counters = psutil.disk_io_counters()
        return None if counters is None else DiskIo(counters.read_bytes, counters.write_bytes)
    disks = {path.name for path in _SYS_BLOCK.iterdir() if not path.name.startswith(_VIRTUAL_DISKS)}
    rows = (line.split() for line in (_PROC / "diskstats").read_text().splitlines())
    sectors = [(int(row[5]), int(row[9])) for row in rows if row[2] in disks]
    if not sectors:
        return None
    return DiskIo(_SECTOR * sum(read for read, _ in sectors), _SECTOR * sum(written for _, written in sectors))


def temperatures() -> list[Temperature]:
    """Return the readings of the chips, at most MAX_TEMPERATURES: a large server has a hundred."""
    if psutil is not None:
        chips: dict[str, Any] = getattr(psutil, "sensors_temperatures", dict)()  # not on every system
        readings = [Temperature(chip, entry.label, entry.current) for chip in chips for entry in chips[chip]]
        return readings[:MAX_TEMPERATURES]
    found = []
    for path in sorted(_HWMON.glob("hwmon*/temp*_input")):
        label = path.with_name(path.name.replace("_input", "_label"))
        with contextlib.suppress(OSError, ValueError):  # a chip that sleeps cannot be read
            celsius = int(path.read_text()) / 1000
            name = label.read_text().strip() if label.exists() else ""
            found.append(Temperature((path.parent / "name").read_text().strip(), name, celsius))
    return found[:MAX_TEMPERATURES]


def traffic() -> Traffic:
    if psutil is not None:
        cards = [card for name, card in psutil.net_io_counters(pernic=True).items() if name not in LOOPBACK]
        return Traffic(sum(card.bytes_recv for card in cards), sum(card.bytes_sent for card in cards))
    received = sent = 0
    for line in (_PROC / "net/dev").read_text().splitlines()[2:]:
        name, _, counters = line.partition(":")
        if name.strip() not in LOOPBACK:
            fields = counters.split()
            received, sent = received + int(fields[0]), sent + int(fields[8])
    return Traffic(received, sent)


def process_count() -> int:
    if psutil is not None:
        return len(psutil.pids())
    return sum(1 for entry in _PROC.iterdir() if entry.name.isdigit())


def connection_count() -> int:
    """Return the kernel's count of TCP connections. Listing them would open the files of every process."""
    names, values = (line.split() for line in (_PROC / "net/snmp").read_text().splitlines() if line.startswith("Tcp:"))
    return int(values[names.index("CurrEstab")])


def uptime() -> int:
    return round(MachineClock().uptime())


def load() -> tuple[float, float, float]:
    return os.getloadavg()


Reader = Callable[[], Any]
READERS: dict[str, Reader] = {
    "cpu": cpu_times,
    "memory": memory,
    "swap": swap_percent,
    "disk": disk,
    "disk_io": disk_io,
    "network": traffic,
    "processes": process_count,
    "connections": connection_count,
    "uptime": uptime,
    "load": load,
    "temperatures": temperatures,
}
