"""The state of a device, from the time at which it was last seen."""

from datetime import datetime
from typing import NamedTuple

import numpy as np

from metrics.query.last_seen import LastSeenColumns

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


def count_states(fleet: LastSeenColumns, now: datetime) -> dict[DeviceState, int]:
    """Return the number of devices in each state; the same rules as StateLimits, for all devices at once."""
    age = now.timestamp() - fleet.times / 1e6
    has_interval = fleet.intervals > 0
    late = age > np.where(has_interval, fleet.intervals * LATE_INTERVALS, DEFAULT_OFFLINE_SECONDS)
    offline = age > np.where(has_interval, fleet.intervals * OFFLINE_INTERVALS, DEFAULT_OFFLINE_SECONDS)
    seen = fleet.times != 0
    return {
        OFFLINE: int(np.count_nonzero(seen & offline)),
        LATE: int(np.count_nonzero(seen & late & ~offline)),
        ONLINE: int(np.count_nonzero(seen & ~late)),
        NEVER_SEEN: int(np.count_nonzero(~seen)),
    }
