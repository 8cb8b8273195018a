"""The disturbances of a device: faults, outages, lost connections, restarts and the error of its clock.

Time is divided into blocks. Whether and when something happens in a block follows from the number of the block, and
ends in it, so the schedule of any range is found without the one before.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from telemetry_client.simulator.drivers import DAY, HOUR, MINUTE, SECOND, WEEK
from telemetry_client.simulator.hashing import Floats, Ints, derive_key, uniform, uniform_at

RESTART_BLOCK = 8 * DAY
SYNC_BLOCK = 2 * DAY  # a clock with an error is set once in each
MAX_OFFSET = 90 * SECOND  # of a clock after it was set; with the drift less than the 5 minutes that sites accept
MAX_DRIFT = 4e-4  # s per s
LONGEST_PART = 0.8  # of a block


class Disturbance(StrEnum):
    """Kinds of labels: faults of a sensor, then events of the whole device."""

    STUCK = "stuck"
    SPIKE = "spike"
    LEVEL_SHIFT = "level_shift"
    DRIFT = "drift"
    NOISE = "noise"
    OUTAGE = "outage"
    OFFLINE = "offline"
    RESTART = "restart"


FAULTS = (Disturbance.STUCK, Disturbance.SPIKE, Disturbance.LEVEL_SHIFT, Disturbance.DRIFT, Disturbance.NOISE)
_FAULT_HOURS = {
    Disturbance.STUCK: (1, 10),
    Disturbance.LEVEL_SHIFT: (3, 20),
    Disturbance.DRIFT: (12, 60),
    Disturbance.NOISE: (1, 8),
}
_SPIKE_INTERVALS = 3  # at most


@dataclass(frozen=True, slots=True)
class Rates:
    """How often devices are disturbed: faults, outages and lost connections per device and week, and the share of
    devices whose clock has an error. Zero turns one off; counters restart in any case.
    """

    faults: float = 1.0
    outages: float = 0.25
    offline: float = 0.5
    clock_errors: float = 0.2

    def __post_init__(self) -> None:
        for name in ("faults", "outages", "offline"):
            if not 0 <= getattr(self, name) <= 50:
                raise ValueError(f"{name} must be 0 to 50 per device and week")
        if not 0 <= self.clock_errors <= 1:
            raise ValueError("clock_errors must be 0 to 1, a share of the devices")


class Period(NamedTuple):
    """A period in true time, ms."""

    start: int
    end: int


class Fault(NamedTuple):
    """A fault of the sensor of one metric; `size` and `sign` say how strong it is and which way it goes."""

    start: int
    end: int
    metric: int  # index among the metrics that can be disturbed
    kind: Disturbance
    size: float  # 0 to 1
    sign: int


class Schedule:
    """The disturbances of one device, whose first measurement of every `interval` (ms) is `phase` after it began."""

    def __init__(self, key: int, rates: Rates, interval: int, phase: int, metrics: int) -> None:
        self._rates, self._interval, self._phase, self._metrics = rates, interval, phase, metrics
        self._keys = {name: derive_key(key, name) for name in ("fault", "outage", "offline", "restart", "clock")}
        clock = self._keys["clock"]
        self.has_clock_error = uniform_at(clock, -1) < rates.clock_errors
        self._drift = (2 * uniform_at(clock, -2) - 1) * MAX_DRIFT

    def faults(self, start: int, end: int) -> Iterator[Fault]:
        """Yield the faults that overlap a range, oldest first, on the ticks of the device."""
        if not self._rates.faults or not self._metrics:
            return
        block, key = int(WEEK / self._rates.faults), self._keys["fault"]
        for number in _blocks(start, end, block):
            draw = uniform(key, number * 8 + np.arange(8, dtype=np.int64)).tolist()
            kind = FAULTS[int(draw[1] * len(FAULTS))]
            if kind is Disturbance.SPIKE:
                length = self._interval * (1 + int(draw[2] * _SPIKE_INTERVALS))
            else:
                shortest, longest = _FAULT_HOURS[kind]
                length = int(min((shortest + draw[2] * (longest - shortest)) * HOUR, LONGEST_PART * block))
            length = max(length // self._interval, 1) * self._interval
            begin = self._align(number * block + int(draw[3] * max(block - length - self._interval, 0)))
            fault = Fault(
                begin, begin + length, int(draw[4] * self._metrics), kind, draw[5], 1 if draw[6] < 0.5 else -1
            )
            is_seen = not any(outage.start <= begin and fault.end <= outage.end for outage in self.outages(*fault[:2]))
            if draw[0] < 0.85 and fault.start < end and start < fault.end and is_seen:
                yield fault

    def _align(self, time: int) -> int:
        """Return the first tick of the device at or after this time."""
        return -((self._phase - time) // self._interval) * self._interval + self._phase

    def outages(self, start: int, end: int) -> Iterator[Period]:
        """Yield the outages (no measurements, then a restart) that overlap a range."""
        return _periods(self._keys["outage"], self._rates.outages, 10 * MINUTE, 9 * HOUR, start, end)

    def offline(self, start: int, end: int) -> Iterator[Period]:
        """Yield the periods without a connection, after which the measurements arrive together."""
        return _periods(self._keys["offline"], self._rates.offline, 15 * MINUTE, 6 * HOUR, start, end)

    def unreachable(self, start: int, end: int) -> Iterator[Period]:
        """Yield the periods that overlap a range in which the device cannot send."""
        yield from self.offline(start, end)
        yield from self.outages(start, end)

    def restarts(self, start: int, end: int) -> Ints:
        """Return the times at which counters restart, ascending: at least the last one before `start`."""
        first = start - 2 * RESTART_BLOCK
        blocks = np.array(_blocks(first, end, RESTART_BLOCK), np.int64)
        planned = blocks * RESTART_BLOCK + (uniform(self._keys["restart"], blocks) * RESTART_BLOCK).astype(np.int64)
        after_outages = [outage.end for outage in self.outages(first, end)]
        times = np.sort(np.concatenate([planned, np.array(after_outages, np.int64)]))
        return times[times < end]

    def clock_errors(self, times: Ints) -> Ints:
        """Return how far the clock of the device is ahead at each true time, ms."""
        if not self.has_clock_error:
            return np.zeros(len(times), np.int64)
        block = times // SYNC_BLOCK
        since = (times - block * SYNC_BLOCK).astype(np.float64)
        offset: Floats = (2 * uniform(self._keys["clock"], block) - 1) * MAX_OFFSET
        return (offset + since * self._drift).astype(np.int64)

    def read_clock(self, time: int) -> int:
        """Return the time that the clock of the device shows at a true time."""
        return time + int(self.clock_errors(np.array([time], np.int64))[0])


def _blocks(start: int, end: int, length: int) -> Sequence[int]:
    return range(start // length, (end - 1) // length + 1)


def _periods(key: int, rate: float, shortest: int, longest: int, start: int, end: int) -> Iterator[Period]:
    if not rate:
        return
    block = int(WEEK / rate)
    for number in _blocks(start, end, block):
        if uniform_at(key, 4 * number) >= 0.85:
            continue
        # Squared: short periods are more frequent than long ones.
        length = int(min(shortest + uniform_at(key, 4 * number + 1) ** 2 * (longest - shortest), LONGEST_PART * block))
        begin = number * block + int(uniform_at(key, 4 * number + 2) * (block - length))
        if begin < end and start < begin + length:
            yield Period(begin, begin + length)
