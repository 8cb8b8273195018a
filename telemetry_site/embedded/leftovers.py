"""Processes that a killed supervisor left behind. They are found by what they hold, never by a kept number alone:
numbers are given again after a restart of the machine.
"""

import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

MARK = "TELEMETRY_SUPERVISED"  # in the environment of every Python child, with the data folder for its value
SERVERS = ("postgres", "initdb", "valkey-server")


def stop_servers(folder: Path, gentle: signal.Signals, patience: float) -> int:
    """Stop the servers that work in `folder`, the one that started the others first; how many there were."""
    found = _found(lambda process: process.name().startswith(SERVERS) and _works_in(process, folder))
    numbers = {process.pid for process in found}
    leaders = [process for process in found if process.ppid() not in numbers] if found else []
    _end(leaders, gentle, patience)
    _end([process for process in found if process.is_running()], signal.SIGKILL, 10)
    return len(leaders)


def stop_marked(data_dir: Path, patience: float = 3.0) -> int:
    """Stop web, worker and the other Python children of this data folder."""
    found = _found(lambda process: process.environ().get(MARK) == str(data_dir))
    _end(found, signal.SIGTERM, patience)
    _end([process for process in found if process.is_running()], signal.SIGKILL, 5)
    return len(found)


def _works_in(process: psutil.Process, folder: Path) -> bool:
    return Path(process.cwd()).samefile(folder)


def _found(holds: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE and holds(process):
                found.append(process)
        except (psutil.Error, OSError):  # it has just ended, or belongs to somebody else
            continue
    return found


def _end(processes: Iterable[psutil.Process], with_signal: signal.Signals, patience: float) -> None:
    waiting = list(processes)
    for process in waiting:
        try:
            process.send_signal(with_signal)
        except psutil.Error:
            continue
    psutil.wait_procs(waiting, timeout=patience)
