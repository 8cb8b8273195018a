"""The supervisor: restarts processes that end, and stops all processes in order.

It has one thread and does not load Django, so that it uses little memory and CPU while the site runs.
"""

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Protocol

from telemetry_site.embedded.child_process import (
    StopPolicy,
    exit_description,
    last_lines,
    request_stop,
    rotate_log,
    wait_until_stopped,
)
from telemetry_site.embedded.postgres import CannotStart

MIN_RESTART_DELAY = 0.2  # seconds; doubled with each failure
MAX_RESTART_DELAY = 30.0  # seconds
STABLE_PERIOD = 60.0  # seconds of running that reset the restart delay
LOG_ROTATION_INTERVAL = 60.0  # seconds
STOP_TIMEOUT = 14.0  # seconds from the signal until every process has stopped
PROGRESS_INTERVAL = 10.0  # seconds between two "still waiting" lines
START_POLL_INTERVAL = 0.02  # seconds
CHECK_INTERVAL = 5.0  # seconds; the end of a child wakes the supervisor earlier


class ManagedProcess(Protocol):
    """The attributes of a process that the supervisor uses."""

    name: str
    process: subprocess.Popen[bytes] | None

    @property
    def log(self) -> Path: ...
    @property
    def stop_policy(self) -> StopPolicy: ...
    def start(self) -> None: ...


class StopRequested(Exception):
    """A stop signal arrived while the site was starting."""


@dataclass
class SupervisedProcess:
    """A process with its failures and its next start."""

    managed: ManagedProcess
    reserve: float  # seconds of STOP_TIMEOUT that remain for the processes that are stopped later
    failures: int = 0
    started: float = 0.0
    next_start: float | None = None

    def start(self) -> None:
        self.started = time.monotonic()
        self.next_start = None
        self.managed.start()

    @property
    def is_running(self) -> bool:
        return self.managed.process is not None and self.managed.process.poll() is None

    def schedule_restart(self) -> float:
        """Schedule the next start; return the delay in seconds."""
        if time.monotonic() - self.started > STABLE_PERIOD:
            self.failures = 0
        delay = min(MIN_RESTART_DELAY * 2.0**self.failures, MAX_RESTART_DELAY)
        self.failures += 1
        self.next_start = time.monotonic() + delay
        return delay


class Supervisor:
    """Restarts processes that end; stops processes by descending `reserve`."""

    def __init__(self, print_line: Callable[[str], None]) -> None:
        self.print_line = print_line
        self.processes: list[SupervisedProcess] = []
        self.signals = 0
        self._rotated = time.monotonic()
        self._wakeup_read, self._wakeup_write = os.pipe()
        for end in (self._wakeup_read, self._wakeup_write):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._wakeup_write, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_stop_signal)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)  # only wakes up `wait`

    def _on_stop_signal(self, number: int, frame: FrameType | None) -> None:
        self.signals += 1

    def wait(self, seconds: float) -> None:
        """Sleep until a signal arrives, a child ends, or `seconds` have passed."""
        if self.signals == 0:
            select.select([self._wakeup_read], [], [], seconds)
        try:
            os.read(self._wakeup_read, 4096)
        except BlockingIOError:
            return

    def add(self, managed: ManagedProcess, reserve: float) -> None:
        """Start a process and restart it whenever it ends."""
        process = SupervisedProcess(managed, reserve)
        self.processes.append(process)
        process.start()

    def wait_until_ready(self, ready: Callable[[], bool], managed: ManagedProcess, timeout: float, name: str) -> None:
        """Wait until `ready()`, printing progress.

        Raises CannotStart if the process ends or after `timeout` seconds; StopRequested after a stop signal.
        """
        started = time.monotonic()
        last_printed = started
        while not ready():
            now = time.monotonic()
            self.raise_if_stopped()
            if managed.process is not None and managed.process.poll() is not None:
                raise CannotStart(_failure(managed))
            if now - started > timeout:
                raise CannotStart(f"{name} is not ready after {timeout:.0f} s (see {managed.log})")
            if now - last_printed >= PROGRESS_INTERVAL:
                last_printed = now
                self.print_line(f"  still waiting for {name} ({now - started:.0f} s)")
            self.wait(START_POLL_INTERVAL)

    def raise_if_stopped(self) -> None:
        if self.signals:
            raise StopRequested

    def run(self) -> None:
        """Restart processes that end, until a stop signal arrives."""
        while not self.signals:
            for process in self.processes:
                self._restart_if_ended(process)
            delays = [p.next_start - time.monotonic() for p in self.processes if p.next_start is not None]
            self.wait(max(0.01, min([CHECK_INTERVAL, *delays])))
            self._rotate_logs()

    def _restart_if_ended(self, process: SupervisedProcess) -> None:
        if process.is_running:
            return
        managed = process.managed
        if process.next_start is None:
            assert managed.process is not None
            reason = exit_description(managed.process)
            self.print_line(f"{managed.name} {reason}; restarting in {process.schedule_restart():.1f} s")
        elif time.monotonic() >= process.next_start:
            try:
                process.start()
            except (CannotStart, OSError) as error:
                delay = process.schedule_restart()
                self.print_line(f"{managed.name} cannot be started ({error}); retrying in {delay:.1f} s")

    def _rotate_logs(self) -> None:
        if time.monotonic() - self._rotated > LOG_ROTATION_INTERVAL:
            self._rotated = time.monotonic()
            for process in self.processes:
                rotate_log(process.managed.log)

    def stop(self) -> None:
        """Stop the processes by descending `reserve`, those with the same reserve together.

        A second stop signal kills the remaining processes at once.
        """
        signals, deadline = max(self.signals, 1), time.monotonic() + STOP_TIMEOUT
        for reserve in sorted({process.reserve for process in self.processes}, reverse=True):
            group = [p.managed for p in self.processes if p.reserve == reserve]
            running = [(managed.process, managed.stop_policy) for managed in group if managed.process is not None]
            for process, policy in running:
                request_stop(process, policy)
            for process, policy in running:
                wait_until_stopped(process, policy, deadline - reserve, hurry=lambda: self.signals > signals)


def _failure(managed: ManagedProcess) -> str:
    assert managed.process is not None
    lines = "".join(f"\n    {line}" for line in last_lines(managed.log))
    return f"{managed.name} {exit_description(managed.process)} (see {managed.log}):{lines}"
