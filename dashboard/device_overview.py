"""Devices as the pages show them: state, age and newest values. Nothing here reads a whole large fleet."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from metrics.devices.device_state import LATE, NEVER_SEEN, OFFLINE, ONLINE, DeviceState, StateLimits
from metrics.models import Device
from metrics.query import latest
from metrics.query.latest import Point
from metrics.value_text import kind_of

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
    """The number of devices in each state, and the rows that a page lists, the worst state first."""

    rows: Sequence[DeviceRow]
    counts: Mapping[DeviceState, int]
    newest: datetime | None  # when the last point of any device was measured

    @classmethod
    def of_rows(cls, rows: Iterable[DeviceRow]) -> "DeviceSummary":
        """Return the summary of devices that are all listed."""
        ordered = worst_first(rows)
        counts = Counter(row.state for row in ordered)
        return cls(ordered, counts, max((row.last_seen for row in ordered if row.last_seen), default=None))

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def complete(self) -> bool:
        """Whether the rows are all devices."""
        return len(self.rows) == self.total

    @property
    def worst(self) -> DeviceState:
        """The worst state of any device; devices without data count only where no device has any."""
        return next((state for state in (OFFLINE, LATE, ONLINE) if self.counts.get(state)), NEVER_SEEN)

    @property
    def sign(self) -> str:
        """The sign of the summary: a tick only where every device is online."""
        return NEVER_SEEN.name if self.worst is ONLINE and self.counts.get(NEVER_SEEN) else self.worst.name

    @property
    def sentence(self) -> str:
        if not self.total:
            return "0 devices"
        if self.worst is NEVER_SEEN:
            return "No device has sent data yet"
        count, state = self.counts[self.worst], self.worst.label.lower()
        if count == self.total and self.worst is ONLINE:
            return f"{plural(count, 'device')} online"
        if self.total == 1:
            return f"The device is {state}"
        return f"{count:,} of {self.total:,} devices {'is' if count == 1 else 'are'} {state}"

    @property
    def detail(self) -> str:
        """The names of a few late or offline devices, and the number of devices in the other states."""
        names = [str(row.device) for row in self.rows if row.state is self.worst]
        few = self.worst in (OFFLINE, LATE) and self.counts[self.worst] <= KEY_VALUES
        parts = [", ".join(names[:KEY_VALUES])] if few and names else []
        others = [
            f"{self.counts[state]:,} {text}"
            for state, text in ((LATE, "late"), (ONLINE, "online"), (NEVER_SEEN, "without data yet"))
            if state is not self.worst and self.counts.get(state)
        ]
        return "".join(f"{part}. " for part in (*parts, ", ".join(others)) if part)


def worst_first(rows: Iterable[DeviceRow]) -> list[DeviceRow]:
    """Return rows by state, the worst first, and then the most recently seen first."""
    return sorted(rows, key=lambda row: (row.state.rank, -row.last_seen_seconds, row.device.device_id))


def plural(number: int, noun: str) -> str:
    """Return a number with its noun: "1 device", "2 devices"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
