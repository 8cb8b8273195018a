"""The clock of collectors: times of measurements, and waiting that can be interrupted."""

import threading
import time
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
