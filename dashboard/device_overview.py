"""Devices as the pages show them: state, age, newest values. Bounded: nothing here reads a whole large fleet."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from dashboard.device_state import LATE, NEVER, OK, SILENT, Patience, State
from dashboard.number_format import duration_text, kind_of, reading
from metrics.models import Device
from metrics.query import latest

# Far enough that a recording of years ago still shows its newest value.
EVER = timedelta(days=3650)
# What a person wants to see of a device first, where it has such a metric.
TELLING = [
    re.compile(p)
    for p in (r"cpu.*(percent|usage)", r"^cpu$", r"temp", r"mem.*(percent|usage)", r"load", r"humid", r"power|volt")
]
SHOWN = 3


def interest(metric_name: str) -> tuple[int, str]:
    """Sorts the telling metrics first, the rest by name."""
    name = metric_name.lower()
    return next((i for i, pattern in enumerate(TELLING) if pattern.search(name)), len(TELLING)), metric_name


@dataclass(frozen=True, slots=True)
class Reading:
    """The newest value of one metric of one device."""

    metric_name: str
    value: Any
    raw_unit: str
    timestamp: datetime
    now: datetime

    @property
    def name_parts(self) -> list[str]:
        """Where a long name may be broken."""
        return re.split(r"(?<=[_./-])", self.metric_name)

    @property
    def kind(self) -> str:
        return kind_of(self.value)

    @property
    def text(self) -> str:
        return reading(self.value, self.raw_unit)[0]

    @property
    def unit(self) -> str:
        return reading(self.value, self.raw_unit)[1]

    @property
    def age(self) -> str:
        return duration_text((self.now - self.timestamp).total_seconds())


@dataclass(frozen=True, slots=True)
class Seen:
    """A device with what was last heard of it."""

    device: Device
    readings: list[Reading]
    now: datetime
    damaged: Sequence[str] = ()  # what cannot be read and may have held newer values, of this device or of others

    @property
    def last_seen(self) -> datetime | None:
        return max((r.timestamp for r in self.readings), default=None)

    @property
    def quiet_since(self) -> float:
        """For sorting: a device that was never heard has been quiet for ever."""
        return self.last_seen.timestamp() if self.last_seen else 0.0

    @property
    def patience(self) -> Patience:
        return Patience.of(self.device.expected_interval)

    @property
    def state(self) -> State:
        return self.patience.state(self.last_seen, self.now)

    @property
    def age(self) -> str:
        return duration_text((self.now - self.last_seen).total_seconds()) if self.last_seen else "never"

    @property
    def telling(self) -> list[Reading]:
        return sorted(self.readings, key=lambda r: interest(r.metric_name))[:SHOWN]

    @property
    def drawable(self) -> list[Reading]:
        """What a chart can show, the telling ones first."""
        return sorted((r for r in self.readings if r.kind != "words"), key=lambda r: interest(r.metric_name))


def see(devices: Iterable[Device], now: datetime) -> list[Seen]:
    """The devices with their newest values: one read of the storage for all of them."""
    known = list(devices)
    found: dict[str, list[Reading]] = defaultdict(list)
    if not known:
        return []
    newest = latest.read_latest_points([d.device_id for d in known], None, EVER)
    for point in newest.points:
        found[point.device_id].append(Reading(point.metric_name, point.value, point.unit or "", point.timestamp, now))
    return [Seen(device, found[device.device_id], now, newest.damaged) for device in known]


@dataclass(frozen=True, slots=True)
class Situation:
    """One sentence on the state of what is shown, the worst first."""

    rows: Sequence[Seen]
    total: int
    now: datetime

    @property
    def complete(self) -> bool:
        return len(self.rows) == self.total

    def count(self, state: State) -> int:
        return sum(row.state is state for row in self.rows)

    @property
    def worst(self) -> State:
        """Of late and silent devices only some need to be; a fleet without any reporting one is worse than that."""
        return next((s for s in (SILENT, LATE, OK) if self.count(s)), NEVER)

    @property
    def sentence(self) -> str:
        if self.worst is NEVER:
            return "No device was heard yet"
        number = self.count(self.worst)
        if self.worst is OK and self.complete:
            return f"{plural(number, 'device')} reporting"
        if not self.complete:
            verb = "is" if number == 1 else "are"
            return f"{number} of the {len(self.rows)} devices heard last {verb} {self.worst.word.lower()}"
        if self.total == 1:
            return f"The device is {self.worst.word.lower()}"
        return f"{number} of {self.total:,} devices {'is' if number == 1 else 'are'} {self.worst.word.lower()}"

    @property
    def detail(self) -> str:
        """Who it is, while that is short; else how the others fare."""
        named = (
            [str(row.device) for row in self.rows if row.state is self.worst] if self.worst in (LATE, SILENT) else []
        )
        if named and len(named) <= SHOWN:
            return ", ".join(named) + ". "
        return f"{plural(self.count(OK), 'device')} reporting. " if named and self.count(OK) else ""

    @property
    def newest(self) -> datetime | None:
        return max((row.last_seen for row in self.rows if row.last_seen), default=None)

    @property
    def newest_age(self) -> str:
        return duration_text((self.now - self.newest).total_seconds()) if self.newest else ""


def plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
