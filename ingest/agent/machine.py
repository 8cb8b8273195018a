"""Readings of this machine: by psutil if it is installed, otherwise from /proc."""

from __future__ import annotations

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
_PROC = Path("/proc")


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
    lines = (line.split() for line in (_PROC / "meminfo").read_text().splitlines())
    sizes = {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if len(words) > 1}
    return Memory(sizes["MemTotal"] - sizes.get("MemAvailable", sizes["MemFree"]), sizes["MemTotal"])


def disk() -> tuple[int, int, float]:
    """Return bytes used and total of the root file system, and the used percentage of the space for users."""
    usage = shutil.disk_usage("/")
    usable = usage.used + usage.free
    return usage.used, usage.total, 100 * usage.used / usable if usable else 0.0


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
    "disk": disk,
    "network": traffic,
    "processes": process_count,
    "connections": connection_count,
    "uptime": uptime,
    "load": load,
}
