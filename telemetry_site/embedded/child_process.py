"""Starting and stopping child processes that end with their parent."""

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

from telemetry_site.embedded.server_account import ServerAccount

PR_SET_PDEATHSIG = 1
MAX_LOG_SIZE = 10_000_000  # bytes
POLL_INTERVAL = 0.02  # seconds
KILL_TIMEOUT = 1.0  # seconds between the forced stop and SIGKILL

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def spawn(
    command: Sequence[str | Path],
    log: Path,
    *,
    account: ServerAccount | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    pass_fds: Sequence[int] = (),
    death_signal: signal.Signals = signal.SIGTERM,
) -> subprocess.Popen[bytes]:
    """Start a child process that writes to `log`, in its own session so that Ctrl-C reaches only the supervisor."""
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
            preexec_fn=_end_with_parent(death_signal),
            **(account.popen_arguments() if account else {}),
        )


def _end_with_parent(death_signal: signal.Signals) -> Callable[[], None] | None:
    """Return a function that makes Linux signal the child when its parent ends, even by `kill -9`.

    On other systems the next start stops the child (see orphan_processes). The parent is the calling thread, which
    must live as long as the child.
    """
    if _libc is None:
        return None
    libc, parent = _libc, os.getpid()

    def set_death_signal() -> None:
        libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:  # the parent ended before prctl was called
            os.kill(os.getpid(), signal.SIGKILL)

    return set_death_signal


@dataclass(frozen=True)
class StopPolicy:
    """How a process is stopped: `stop_signal`, and after `timeout` seconds `force_signal`."""

    stop_signal: signal.Signals = signal.SIGTERM
    force_signal: signal.Signals = signal.SIGKILL
    timeout: float = 15.0


def server_environment() -> dict[str, str]:
    """Return the environment of PostgreSQL and Valkey, without the caller's PG* variables."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def request_stop(process: subprocess.Popen[bytes], policy: StopPolicy) -> None:
    if process.poll() is None:
        process.send_signal(policy.stop_signal)


def wait_until_stopped(
    process: subprocess.Popen[bytes],
    policy: StopPolicy,
    deadline: float = math.inf,
    hurry: Callable[[], bool] = lambda: False,
) -> None:
    """Wait for a process that was asked to stop; send the force signal at `deadline` (monotonic) or if `hurry()`."""
    deadline = min(deadline, time.monotonic() + policy.timeout)
    while process.poll() is None and time.monotonic() < deadline and not hurry():
        time.sleep(POLL_INTERVAL)
    if process.poll() is None:
        process.send_signal(policy.force_signal)
        try:
            process.wait(timeout=KILL_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def exit_description(process: subprocess.Popen[bytes]) -> str:
    code = process.returncode
    if code is None:
        return "is running"
    return f"exited with code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"


def rotate_log(log: Path) -> None:
    """Copy a log file that is too large to `.log.1` and truncate it; its writer keeps it open for appending."""
    try:
        if log.stat().st_size > MAX_LOG_SIZE:
            shutil.copyfile(log, log.with_suffix(".log.1"))
            os.truncate(log, 0)
    except OSError:  # a full disk must not stop the servers
        return


def last_lines(log: Path, count: int = 8) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            return file.read().decode(errors="replace").strip().splitlines()[-count:]
    except OSError:
        return []
