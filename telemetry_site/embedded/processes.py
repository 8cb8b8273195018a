"""Child processes that die with their parent, and how they are stopped."""

import ctypes
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from telemetry_site.embedded.account import Account

PR_SET_PDEATHSIG = 1
LARGEST_LOG = 10_000_000
POLL = 0.02

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def spawn(
    command: Sequence[str | Path],
    log: Path,
    *,
    account: Account | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    pass_fds: Sequence[int] = (),
    death_signal: signal.Signals = signal.SIGTERM,
) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own (so that Ctrl-C reaches the supervisor alone) that writes to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment) if environment is not None else None,
            cwd=folder,
            pass_fds=pass_fds,
            start_new_session=True,
            preexec_fn=_dying_with_parent(death_signal),
            **(account.popen() if account else {}),
        )


def _dying_with_parent(death_signal: signal.Signals) -> Callable[[], None] | None:
    """Linux signals the child when its parent is gone, even by `kill -9`; elsewhere the next start finds it.

    The parent is the thread that calls this: it must be one that lives as long as the child should.
    """
    if _libc is None:
        return None
    libc, parent = _libc, os.getpid()

    def prepare() -> None:
        libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above
            os.kill(os.getpid(), signal.SIGKILL)

    return prepare


@dataclass(frozen=True)
class Ending:
    """How a process is stopped: politely, and, when its time (in seconds) is over, with force."""

    polite: signal.Signals = signal.SIGTERM
    forceful: signal.Signals = signal.SIGKILL
    patience: float = 15.0


def server_environment() -> dict[str, str]:
    """What PostgreSQL and Valkey get to see: no PG* variable of the caller, for one."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def ask_to_end(process: subprocess.Popen[bytes], ending: Ending) -> None:
    if process.poll() is None:
        process.send_signal(ending.polite)


def await_end(
    process: subprocess.Popen[bytes],
    ending: Ending,
    deadline: float = math.inf,
    hurry: Callable[[], bool] = lambda: False,
) -> None:
    """Wait until `deadline` (monotonic) for a process that was asked to end, then use force; at once to `hurry`."""
    deadline = min(deadline, time.monotonic() + ending.patience)
    while process.poll() is None and time.monotonic() < deadline and not hurry():
        time.sleep(POLL)
    if process.poll() is None:
        process.send_signal(ending.forceful)
        try:
            process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def how_it_ended(process: subprocess.Popen[bytes]) -> str:
    code = process.returncode
    if code is None:
        return "runs"
    return f"ended with exit code {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"


def rotate(log: Path) -> None:
    """Keep one older part of a log. The writer appends, so the file is copied and emptied, not moved."""
    try:
        if log.stat().st_size > LARGEST_LOG:
            shutil.copyfile(log, log.with_suffix(".log.1"))
            os.truncate(log, 0)
    except OSError:  # the log is a convenience: a full disk must not stop the servers
        return


def last_lines(log: Path, count: int = 8) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            return file.read().decode(errors="replace").strip().splitlines()[-count:]
    except OSError:
        return []
