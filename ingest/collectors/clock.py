"""The clock of collectors: times of measurements, and waiting that can be interrupted."""

import threading
import time
from collections.abc import Iterator
from typing import Protocol


class CollectorClock(Protocol):
    """The time functions that a collector uses."""

    def time(self) -> float:
        """Return seconds since 1970, UTC."""

    def monotonic(self) -> float:
        """Return seconds of a clock that never goes back."""

    def wait(self, seconds: float) -> bool:
        """Wait; return True if the collector has to end."""


class SystemClock:
    """The machine's clock."""

    def __init__(self) -> None:
        self._ended = threading.Event()

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def wait(self, seconds: float) -> bool:
        return self._ended.wait(seconds)

    def end(self) -> None:
        self._ended.set()


def ticks(clock: CollectorClock, interval: float, settle: float = 0.0) -> Iterator[float]:
    """Wait for each multiple of `interval` and yield it, the first after at least `settle` seconds.

    Each wait is computed from the wall clock, so delays do not add up. A clock that is set back, or a machine that was
    suspended, loses only the ticks in between.
    """
    if clock.wait(settle):
        return
    while True:
        due = (clock.time() // interval + 1) * interval
        while 0 < (ahead := due - clock.time()) <= interval:
            if clock.wait(ahead):
                return
        if ahead <= 0:
            yield clock.time() // interval * interval
