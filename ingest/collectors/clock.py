"""Time for collectors: when to measure, and waiting that can be interrupted. Tests give a clock of their own."""

import threading
import time
from collections.abc import Iterator
from typing import Protocol


class Clock(Protocol):
    """What a collector needs to know of time."""

    def time(self) -> float:
        """Seconds since 1970, UTC."""

    def monotonic(self) -> float:
        """Seconds that nobody sets back."""

    def wait(self, seconds: float) -> bool:
        """Wait; True where it is time to end instead."""


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


def ticks(clock: Clock, interval: float, settle: float = 0.0) -> Iterator[float]:
    """The multiples of `interval` as they come, the first no sooner than in `settle` seconds.

    Each wait is reckoned anew from the wall clock, so nothing adds up, and a clock that is set back or a machine
    that slept costs no more than the ticks in between.
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
