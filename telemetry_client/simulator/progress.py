"""Counts of a run of the simulator, and its error."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field


class SimulatorError(Exception):
    """A run cannot begin or continue; the message is for the user."""


@dataclass(slots=True)
class RunResult:
    """Counts of a run. `rejected` points were refused by the site; `first_rejection` says why the first one was.

    measured_from    true time (ms) of the first measurement
    simulated_until  true time (ms) of the last arrival
    """

    points: int = 0
    rejected: int = 0
    first_rejection: str = ""
    labels: int = 0
    late_batches: int = 0
    retries: int = 0
    measured_from: int | None = None
    simulated_until: int = 0
    fraction: float = 0.0  # of the range that is done
    _started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    def update_time(self) -> None:
        self.seconds = time.monotonic() - self._started

    @property
    def rate(self) -> float:
        """Points per second."""
        return self.points / max(self.seconds, 1e-9)


ProgressCallback = Callable[[RunResult], None]


def ignore_progress(_: RunResult) -> None:
    """Show nothing."""
