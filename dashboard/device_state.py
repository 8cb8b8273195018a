"""In which state a device is, judged by when it was last heard."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np

from metrics.query.last_seen import LastSeenColumns

# Of expected intervals: after how many a device counts as late, and as silent.
LATE_INTERVALS = 3
SILENT_INTERVALS = 10
# A device of which nobody said how often it sends is never late; it is silent after this many seconds.
SILENT_AFTER = 300


@dataclass(frozen=True, slots=True)
class State:
    """A word, never a colour alone: `name` chooses both sign and colour in the style sheets."""

    name: str
    word: str
    rank: int  # the worst comes first


SILENT = State("silent", "Silent", 0)
LATE = State("late", "Late", 1)
OK = State("ok", "Reporting", 2)
NEVER = State("never", "Never heard", 3)


@dataclass(frozen=True, slots=True)
class Patience:
    """How many seconds a device may be quiet. The page gets these numbers, so that script and server judge alike."""

    late_after: int
    silent_after: int

    @classmethod
    def of(cls, expected_interval: int | None) -> "Patience":
        if not expected_interval:
            return cls(SILENT_AFTER, SILENT_AFTER)
        return cls(expected_interval * LATE_INTERVALS, expected_interval * SILENT_INTERVALS)

    def state(self, last_seen: datetime | None, now: datetime) -> State:
        if last_seen is None:
            return NEVER
        quiet = (now - last_seen).total_seconds()
        if quiet > self.silent_after:
            return SILENT
        return LATE if quiet > self.late_after else OK


def count_states(fleet: LastSeenColumns, now: datetime) -> dict[State, int]:
    """How many devices are in each state; as Patience judges, all at once."""
    quiet = now.timestamp() - fleet.times / 1e6
    said = fleet.intervals > 0
    late = quiet > np.where(said, fleet.intervals * LATE_INTERVALS, SILENT_AFTER)
    silent = quiet > np.where(said, fleet.intervals * SILENT_INTERVALS, SILENT_AFTER)
    heard = fleet.times != 0
    return {
        SILENT: int(np.count_nonzero(heard & silent)),
        LATE: int(np.count_nonzero(heard & late & ~silent)),
        OK: int(np.count_nonzero(heard & ~late)),
        NEVER: int(np.count_nonzero(~heard)),
    }
