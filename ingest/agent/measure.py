"""Snapshots of this machine: flat for the API, nested for local viewers."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ingest.agent.machine import READERS, CpuTimes, DiskIo, Reader, Temperature, Traffic

log = logging.getLogger(__name__)
MEBI = 2**20
MEGA = 1_000_000
GIGA = 1_000_000_000


class HostMeasurement:
    """Measures this machine. A reader that fails is logged once and leaves its fields out."""

    def __init__(
        self, readers: Mapping[str, Reader] = READERS, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._readers, self._monotonic = readers, monotonic
        self._failing: set[str] = set()
        self._cpu: CpuTimes | None = None
        self._traffic: tuple[float, Traffic] | None = None
        self._disk_io: tuple[float, DiskIo] | None = None

    def fields(self) -> dict[str, float]:
        """Return the measured fields. Rates need two readings, so the first call has none."""
        read = {name: value for name in self._readers if (value := self._read(name)) is not None}
        fields: dict[str, float] = {}
        if "cpu" in read:
            fields.update(self._cpu_percent(read["cpu"]))
        if "memory" in read:
            used, total = read["memory"]
            fields["memory_percent"] = round(100 * used / total, 1) if total else 0.0
            fields["memory_used_mb"], fields["memory_total_mb"] = round(used / MEBI, 1), round(total / MEBI, 1)
        if "disk" in read:
            used, total, percent = read["disk"]
            fields["disk_percent"] = round(percent, 1)
            fields["disk_used_gb"], fields["disk_total_gb"] = round(used / GIGA, 3), round(total / GIGA, 3)
        if "swap" in read:
            fields["swap_percent"] = round(read["swap"], 1)
        if "disk_io" in read:
            fields.update(self._disk_rates(read["disk_io"]))
        if "network" in read:
            fields.update(self._network(read["network"]))
        if "load" in read:
            for name, value in zip(("load_avg_1m", "load_avg_5m", "load_avg_15m"), read["load"]):
                fields[name] = round(value, 2)
        for name, field in (
            ("uptime", "uptime_seconds"),
            ("processes", "process_count"),
            ("connections", "active_connections"),
        ):
            if name in read:
                fields[field] = read[name]
        fields.update(_temperatures(read.get("temperatures", ())))
        return fields

    def _read(self, name: str) -> Any:
        try:
            value = self._readers[name]()
        except Exception as error:  # psutil and the kernel may raise anything
            if name not in self._failing:
                log.warning("%s cannot be measured: %s", name, error or type(error).__name__)
            self._failing.add(name)
            return None
        self._failing.discard(name)
        return value

    def _cpu_percent(self, times: CpuTimes) -> dict[str, float]:
        before, self._cpu = self._cpu, times
        if before is None or times.total <= before.total:
            return {}
        share = (times.busy - before.busy) / (times.total - before.total)
        return {"cpu_percent": round(100 * min(1.0, max(0.0, share)), 1)}

    def _disk_rates(self, counters: DiskIo) -> dict[str, float]:
        before, self._disk_io = self._disk_io, (self._monotonic(), counters)
        read, written = _rates(before, self._disk_io)
        fields = {"disk_read_mb_per_sec": read, "disk_write_mb_per_sec": written}
        return {name: round(rate / MEGA, 4) for name, rate in fields.items() if rate is not None}

    def _network(self, traffic: Traffic) -> dict[str, float]:
        before, self._traffic = self._traffic, (self._monotonic(), traffic)
        received, sent = _rates(before, self._traffic)
        fields: dict[str, float] = {"network_rx_bytes": traffic.received, "network_tx_bytes": traffic.sent}
        for name, rate in (("network_rx_rate_mbps", received), ("network_tx_rate_mbps", sent)):
            if rate is not None:
                fields[name] = round(rate * 8 / MEGA, 4)
        return fields


Counters = tuple[float, tuple[int, int]]  # time and two counters


def _rates(before: Counters | None, now: Counters) -> tuple[float | None, float | None]:
    """Return both counters' increase per second; None at first and after a reset of the counters."""
    if before is None or now[0] <= before[0]:
        return None, None
    first, second = (later - earlier for later, earlier in zip(now[1], before[1]))
    if first < 0 or second < 0:
        return None, None
    return first / (now[0] - before[0]), second / (now[0] - before[0])


def _temperatures(readings: Iterable[Temperature]) -> dict[str, float]:
    """Return the fields of temperatures; repeated names get a number."""
    fields: dict[str, float] = {}
    seen: dict[str, int] = {}
    for reading in readings:
        name = "temperature_" + re.sub(r"[^a-z0-9]+", "_", f"{reading.chip} {reading.label}".lower()).strip("_")
        seen[name] = seen.get(name, 0) + 1
        fields[name if seen[name] == 1 else f"{name}_{seen[name]}"] = reading.celsius
    return {name: celsius for name, celsius in fields.items() if math.isfinite(celsius)}


_NESTED = {
    "cpu": {
        "cpu_usage_percent": "cpu_percent",
        "load_avg_1m": "load_avg_1m",
        "load_avg_5m": "load_avg_5m",
        "load_avg_15m": "load_avg_15m",
    },
    "memory": {
        "memory_usage_percent": "memory_percent",
        "memory_used_mb": "memory_used_mb",
        "memory_total_mb": "memory_total_mb",
        "swap_percent": "swap_percent",
    },
    "network": {
        "bytes_received": "network_rx_bytes",
        "bytes_sent": "network_tx_bytes",
        "active_connections": "active_connections",
    },
    "processes": {"process_count": "process_count", "uptime_seconds": "uptime_seconds"},
}
_DISK = {"percent": "disk_percent", "used_gb": "disk_used_gb", "total_gb": "disk_total_gb"}
_RATES = {"bytes_recv_mb_per_sec": "network_rx_rate_mbps", "bytes_sent_mb_per_sec": "network_tx_rate_mbps"}


def nested_snapshot(snapshot: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nested format of a flat snapshot; fields of other sources are in `custom`."""
    groups: dict[str, dict[str, Any]] = {group: _select(names, snapshot) for group, names in _NESTED.items()}
    groups["disk"] = {"disk_usage": {"/": _select(_DISK, snapshot)}}
    rates = _select(_RATES, snapshot)
    groups["network"].update({name: round(rate / 8, 6) for name, rate in rates.items()})  # megabits to megabytes
    used = {field for names in (*_NESTED.values(), _DISK, _RATES) for field in names.values()}
    custom = {name: value for name, value in snapshot.items() if name not in used | {"node_id", "timestamp"}}
    if custom:
        groups["custom"] = custom
    return {"timestamp": snapshot["timestamp"], "node_id": snapshot["node_id"], "metrics": groups}


def _select(names: Mapping[str, str], snapshot: Mapping[str, Any]) -> dict[str, Any]:
    return {name: snapshot[field] for name, field in names.items() if field in snapshot}
