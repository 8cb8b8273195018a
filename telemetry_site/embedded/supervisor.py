"""Keeps processes running: starts again what ends, and stops everything in order.

One thread, no Django: this process is there as long as the site runs and should cost next to nothing.
"""

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Protocol

from telemetry_site.embedded.postgres import CannotStart
from telemetry_site.embedded.processes import Ending, ask_to_end, await_end, how_it_ended, last_lines, rotate

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 30.0
STEADY = 60.0  # seconds after which a process counts as healthy again
ROTATION = 60.0
STOP_BUDGET = 14.0  # everything has stopped this many seconds after the signal


class Service(Protocol):
    """What the supervisor needs to know of a process."""

    name: str
    process: subprocess.Popen[bytes] | None

    @property
    def log(self) -> Path: ...
    @property
    def ending(self) -> Ending: ...
    def start(self) -> None: ...


class Stopped(Exception):
    """A signal asked to stop while the site was starting."""


@dataclass
class Watched:
    """A service and the history of its ends."""

    service: Service
    reserve: float  # seconds that those stopped after it still need
    failures: int = 0
    started: float = 0.0
    next_start: float | None = None

    def start(self) -> None:
        self.started = time.monotonic()
        self.next_start = None
        self.service.start()

    @property
    def runs(self) -> bool:
        return self.service.process is not None and self.service.process.poll() is None

    def pause(self) -> float:
        if time.monotonic() - self.started > STEADY:
            self.failures = 0
        pause = min(FIRST_PAUSE * 2.0**self.failures, LONGEST_PAUSE)
        self.failures += 1
        self.next_start = time.monotonic() + pause
        return pause


class Supervisor:
    """Watches services in the order in which they were added; stops them in the order of their reserves."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.watched: list[Watched] = []
        self.signals = 0
        self._rotated = time.monotonic()
        self._wakeup, self._written = os.pipe()
        for end in (self._wakeup, self._written):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._written, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._asked_to_stop)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)  # it only wakes `wait`

    def _asked_to_stop(self, number: int, frame: FrameType | None) -> None:
        self.signals += 1

    def wait(self, seconds: float) -> None:
        """Sleep, but no longer than until the next signal or the end of a child."""
        if self.signals == 0:
            select.select([self._wakeup], [], [], seconds)
        try:
            os.read(self._wakeup, 4096)
        except BlockingIOError:
            return

    def add(self, service: Service, reserve: float) -> None:
        watched = Watched(service, reserve)
        self.watched.append(watched)
        watched.start()

    def until(self, ready: Callable[[], bool], waiting_for: Sequence[Service], patience: float, what: str) -> None:
        """Wait until `ready`, with a line now and then; a process that ends meanwhile cannot be waited for."""
        begun = time.monotonic()
        told = begun
        while not ready():
            now = time.monotonic()
            self.raise_if_stopped()
            for service in waiting_for:
                if service.process is not None and service.process.poll() is not None:
                    raise CannotStart(_failure(service))
            if now - begun > patience:
                raise CannotStart(f"{what} is not ready after {patience:.0f} s (see {waiting_for[0].log})")
            if now - told >= 10:
                told = now
                self.say(f"  still waiting for {what} ({now - begun:.0f} s)")
            self.wait(0.02)

    def raise_if_stopped(self) -> None:
        if self.signals:
            raise Stopped

    def run(self) -> None:
        """Watch until a signal asks to stop."""
        while not self.signals:
            for watched in self.watched:
                self._look(watched)
            due = [w.next_start - time.monotonic() for w in self.watched if w.next_start is not None]
            self.wait(max(0.01, min([5.0, *due])))
            self._rotate()

    def _look(self, watched: Watched) -> None:
        service = watched.service
        if watched.runs:
            return
        if watched.next_start is None:
            assert service.process is not None
            self.say(f"{service.name} {how_it_ended(service.process)}; starting it again in {watched.pause():.1f} s")
        elif time.monotonic() >= watched.next_start:
            try:
                watched.start()
            except (CannotStart, OSError) as error:
                self.say(f"{service.name} cannot be started ({error}); trying again in {watched.pause():.1f} s")

    def _rotate(self) -> None:
        if time.monotonic() - self._rotated > ROTATION:
            self._rotated = time.monotonic()
            for watched in self.watched:
                rotate(watched.service.log)

    def stop(self) -> None:
        """Stop the services, those with the largest reserve first and those with the same together."""
        first, end = max(self.signals, 1), time.monotonic() + STOP_BUDGET
        for reserve in sorted({watched.reserve for watched in self.watched}, reverse=True):
            together = [(w.service.process, w.service.ending) for w in self.watched if w.reserve == reserve]
            running = [(process, ending) for process, ending in together if process is not None]
            for process, ending in running:
                ask_to_end(process, ending)
            for process, ending in running:
                await_end(process, ending, end - reserve, hurry=lambda: self.signals > first)


def _failure(service: Service) -> str:
    assert service.process is not None
    lines = "".join(f"\n    {line}" for line in last_lines(service.log))
    return f"{service.name} {how_it_ended(service.process)} (see {service.log}):{lines}"
