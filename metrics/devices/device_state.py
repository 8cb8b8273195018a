"""The state of a device, from the time at which it was last seen."""

from datetime import datetime
from typing import NamedTuple

import numpy as np

from metrics.query.last_seen import LastSeenColumns
from metrics.storage.format.codec import Ints

# After how many expected intervals a device is late, and offline.
LATE_INTERVALS = 3
OFFLINE_INTERVALS = 10
# A device without an expected interval is never late; it is offline after this many seconds.
DEFAULT_OFFLINE_SECONDS = 300


class DeviceState(NamedTuple):
    """A state. `name` chooses the sign and the colour in the style sheets."""

    name: str
    label: str
    rank: int  # the worst first


OFFLINE = DeviceState("offline", "Offline", 0)
LATE = DeviceState("late", "Late", 1)
ONLINE = DeviceState("ok", "Online", 2)
NEVER_SEEN = DeviceState("never", "No data yet", 3)
STATES = (OFFLINE, LATE, ONLINE, NEVER_SEEN)
STATE_NAMES = {ONLINE: "reporting", LATE: "late", OFFLINE: "silent", NEVER_SEEN: "never_heard"}  # of the API


class StateLimits(NamedTuple):
    """After how many seconds without data a device is late and offline; the pages' scripts use the same numbers."""

    late_after: int
    offline_after: int

    @classmethod
    def of(cls, expected_interval: int | None) -> "StateLimits":
        """Return the limits of a device that sends every `expected_interval` seconds."""
        if not expected_interval:
            return cls(DEFAULT_OFFLINE_SECONDS, DEFAULT_OFFLINE_SECONDS)
        return cls(expected_interval * LATE_INTERVALS, expected_interval * OFFLINE_INTERVALS)

    def state(self, last_seen: datetime | None, now: datetime) -> DeviceState:
        if last_seen is None:
            return NEVER_SEEN
        age = (now - last_seen).total_seconds()
        if age > self.offline_after:
            return OFFLINE
        return LATE if age > self.late_after else ONLINE


def ranks_of(fleet: LastSeenColumns) -> Ints:
    """Return the rank of each device's state when the times were read; the rules of StateLimits, for all devices."""
    age = fleet.read_at.timestamp() - fleet.times / 1e6
    has_interval = fleet.intervals > 0
    late = age > np.where(has_interval, fleet.intervals * LATE_INTERVALS, DEFAULT_OFFLINE_SECONDS)
    offline = age > offline_limits(fleet.intervals)
    conditions = [fleet.times == 0, offline, late]
    return np.select(conditions, [NEVER_SEEN.rank, OFFLINE.rank, LATE.rank], ONLINE.rank).astype(np.int64)


def offline_limits(intervals: Ints) -> Ints:
    """Return after how many seconds without data devices with these expected intervals are offline."""
    return np.where(intervals > 0, intervals * OFFLINE_INTERVALS, DEFAULT_OFFLINE_SECONDS).astype(np.int64)


def count_states(ranks: Ints) -> dict[DeviceState, int]:
    """Return the number of devices in each state."""
    return {state: int(np.count_nonzero(ranks == state.rank)) for state in STATES}
