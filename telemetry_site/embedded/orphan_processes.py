"""Processes that are left over from a killed supervisor.

They are identified by their working folder or environment, never by a stored process ID alone, because process IDs are
reused after a reboot.
"""

import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

# Every Python child process has this environment variable; its value is the data folder.
SUPERVISED_VARIABLE = "TELEMETRY_SUPERVISED"
SERVER_NAMES = ("postgres", "initdb", "valkey-server")


def stop_servers(folder: Path, stop_signal: signal.Signals, timeout: float) -> int:
    """Stop the servers whose working folder is `folder`, parent processes first; return how many there were."""
    processes = _matching(lambda process: process.name().startswith(SERVER_NAMES) and _works_in(process, folder))
    process_ids = {process.pid for process in processes}
    parents = [process for process in processes if process.ppid() not in process_ids] if processes else []
    _end(parents, stop_signal, timeout)
    _end([process for process in processes if process.is_running()], signal.SIGKILL, 10)
    return len(parents)


def stop_site_processes(data_dir: Path, timeout: float = 3.0) -> int:
    """Stop web, worker and the other Python processes of this data folder; return how many there were."""
    processes = _matching(lambda process: process.environ().get(SUPERVISED_VARIABLE) == str(data_dir))
    _end(processes, signal.SIGTERM, timeout)
    _end([process for process in processes if process.is_running()], signal.SIGKILL, 5)
    return len(processes)


def _works_in(process: psutil.Process, folder: Path) -> bool:
    return Path(process.cwd()).samefile(folder)


def _matching(matches: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    processes = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE and matches(process):
                processes.append(process)
        except (psutil.Error, OSError):  # the process has just ended, or belongs to another user
            continue
    return processes


def _end(processes: Iterable[psutil.Process], stop_signal: signal.Signals, timeout: float) -> None:
    waiting = list(processes)
    for process in waiting:
        try:
            process.send_signal(stop_signal)
        except psutil.Error:
            continue
    psutil.wait_procs(waiting, timeout=timeout)
