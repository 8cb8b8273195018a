"""Devices as the pages show them: state, age and newest values. Nothing here reads a whole large fleet."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from dashboard.device_state import LATE, NEVER_SEEN, OFFLINE, ONLINE, DeviceState, StateLimits
from dashboard.number_format import kind_of
from metrics.models import Device
from metrics.query import latest
from metrics.query.latest import Point

# How old the newest value of a series may be: imported recordings are years old.
NEWEST_WITHIN = timedelta(days=3650)
# Metrics that describe a device best, the most important first.
KEY_METRICS = [
    re.compile(pattern)
    for pattern in (
        r"cpu.*(percent|usage)", r"^cpu$", r"temp", r"mem.*(percent|usage)", r"load", r"humid", r"power|volt"
    )
]  # fmt: skip
KEY_VALUES = 3


def importance(metric_name: str) -> tuple[int, str]:
    """Return a sort key: key metrics first, the others by name."""
    name = metric_name.lower()
    return next((i for i, pattern in enumerate(KEY_METRICS) if pattern.search(name)), len(KEY_METRICS)), metric_name


class DeviceRow(NamedTuple):
    """A device with its newest values."""

    device: Device
    values: list[Point]  # the most important first
    now: datetime
    damaged: Sequence[str] = ()  # unreadable blocks that may hold newer values, of this device or of others

    @property
    def last_seen(self) -> datetime | None:
        return max((point.timestamp for point in self.values), default=None)

    @property
    def last_seen_seconds(self) -> float:
        """The last-seen time as a sort key; 0 for a device without data."""
        return self.last_seen.timestamp() if self.last_seen else 0.0

    @property
    def state_limits(self) -> StateLimits:
        return StateLimits.of(self.device.expected_interval)

    @property
    def state(self) -> DeviceState:
        return self.state_limits.state(self.last_seen, self.now)

    @property
    def key_values(self) -> list[Point]:
        """The values that describe the device best."""
        return self.values[:KEY_VALUES]

    @property
    def drawable(self) -> list[Point]:
        """The values that a chart can show."""
        return [point for point in self.values if kind_of(point.value) != "words"]


def device_rows(devices: Iterable[Device], now: datetime) -> list[DeviceRow]:
    """Return the devices with their newest values: one read of the storage for all of them."""
    listed = list(devices)
    if not listed:
        return []
    values: dict[str, list[Point]] = defaultdict(list)
    newest = latest.read_latest_points([device.device_id for device in listed], None, NEWEST_WITHIN)
    for point in sorted(newest.points, key=lambda point: importance(point.metric_name)):
        values[point.device_id].append(point)
    return [DeviceRow(device, values[device.device_id], now, newest.damaged) for device in listed]


@dataclass(frozen=True, slots=True)
class DeviceSummary:
    """The state of the listed devices in one sentence, the worst state first."""

    rows: Sequence[DeviceRow]
    total: int

    @property
    def complete(self) -> bool:
        """Whether the rows are all devices."""
        return len(self.rows) == self.total

    def count(self, state: DeviceState) -> int:
        return sum(row.state is state for row in self.rows)

    @property
    def worst(self) -> DeviceState:
        """The worst state of any device; devices without data count only where no device has any."""
        return next((state for state in (OFFLINE, LATE, ONLINE) if self.count(state)), NEVER_SEEN)

    @property
    def sentence(self) -> str:
        if self.worst is NEVER_SEEN:
            return "No device has sent data yet"
        count, state = self.count(self.worst), self.worst.label.lower()
        if self.worst is ONLINE and self.complete:
            return f"{plural(count, 'device')} online"
        verb = "is" if count == 1 else "are"
        if not self.complete:
            return f"{count} of the {len(self.rows)} most recently seen devices {verb} {state}"
        if self.total == 1:
            return f"The device is {state}"
        return f"{count} of {self.total:,} devices {verb} {state}"

    @property
    def detail(self) -> str:
        """The names of the late or offline devices, or the number of online ones where there are too many."""
        if self.worst not in (LATE, OFFLINE):
            return ""
        names = [str(row.device) for row in self.rows if row.state is self.worst]
        if len(names) <= KEY_VALUES:
            return ", ".join(names) + ". "
        return f"{plural(self.count(ONLINE), 'device')} online. " if self.count(ONLINE) else ""

    @property
    def newest(self) -> datetime | None:
        return max((row.last_seen for row in self.rows if row.last_seen), default=None)


def plural(number: int, noun: str) -> str:
    """Return a number with its noun: "1 device", "2 devices"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
