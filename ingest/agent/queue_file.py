"""The SQLite file of a queue: opening with check and repair, and transactions."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ingest.agent.machine_clock import MachineClock
from ingest.agent.queue_check import check_file
from ingest.agent.queue_repair import beside, create_file, finish_repair, repair
from ingest.agent.queue_state import QueueState, StateFile, decode_state, encode_state

try:
    import fcntl
except ImportError:  # Windows: two processes must not open one queue at the same time there
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)
MAX_OFF_TIME = 86400.0  # seconds: the machine's clock may be wrong after a start, so no longer time off is believed
MAX_LOG_PAGES = 200  # 800 KB, which fit into the reserve
_MAX_PAGES = 2**30


class QueueDamaged(sqlite3.DatabaseError):
    """The counters in the file cannot be read."""


class QueueFile:
    """A queue file that is checked, repaired and open. Other processes may open it too."""

    def __init__(self, path: Path, clock: MachineClock) -> None:
        self.path, self._clock = path, clock
        self._copy = StateFile(beside(path, ".state"))
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock_file: IO[bytes] = open(beside(path, ".lock"), "ab")  # noqa: SIM115 - closed by close()
        try:
            self._open()
        except BaseException:
            self._lock_file.close()
            raise

    def _open(self) -> None:
        if self._lock_alone():
            self._check()
        self._lock_shared()
        self.connection = sqlite3.connect(str(self.path), timeout=5, isolation_level=None, check_same_thread=False)
        self.connection.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -1024;"
            f"PRAGMA wal_autocheckpoint = {MAX_LOG_PAGES}"
        )

    def _check(self) -> None:
        """Check the file and repair it if needed. No other process has it open."""
        finish_repair(self.path)
        beside(self.path, ".new").unlink(missing_ok=True)
        copy = self._copy.read()
        if not self.path.exists() and (copy is None or not copy.pending):
            state = copy or QueueState()
            state.revision += 1
            create_file(self.path, state)
            return
        self.path.touch(mode=0o600)
        result = check_file(self.path, copy)
        if result.problem:
            states = [state for state in (copy, result.state) if state is not None]
            self._copy.write(
                repair(self.path, max(states, key=lambda state: state.revision, default=None), result.problem)
            )

    def _lock_alone(self) -> bool:
        if fcntl is None:
            return True
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _lock_shared(self) -> None:
        if fcntl is not None:
            fcntl.flock(self._lock_file, fcntl.LOCK_SH)

    def recover(self, error: sqlite3.Error) -> None:
        """Repair the file after an error in use. Raises the error if another process has the file open."""
        if not self._lock_alone():
            raise error
        self.close_connection(keep_log=True)
        state = self._copy.read()
        self._copy.write(repair(self.path, state, str(error)))
        self._open()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[tuple[sqlite3.Connection, QueueState]]:
        """Yield the connection and the state, which is stored with the changes: one fsync."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            state = self.read_state()
            state.revision += 1
            self._advance(state)
            yield self.connection, state
            self.connection.execute("UPDATE state SET record = ? WHERE id = 1", (encode_state(state),))
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise
        self._copy.write(state)

    def read_state(self) -> QueueState:
        row = self.connection.execute("SELECT record FROM state WHERE id = 1").fetchone()
        state = decode_state(row[0]) if row else None
        if state is None:
            raise QueueDamaged("the counters are damaged")
        return state

    def age(self, state: QueueState) -> float:
        """Return the age clock of the queue now."""
        if state.boot == self._clock.boot:
            return state.age + max(0.0, self._clock.uptime() - state.uptime)
        off = self._clock.time() - state.wall if state.boot else 0.0
        return state.age + min(max(0.0, off), MAX_OFF_TIME)

    def _advance(self, state: QueueState) -> None:
        state.age = self.age(state)
        state.boot, state.uptime, state.wall = self._clock.boot, self._clock.uptime(), self._clock.time()

    def checkpoint(self) -> None:
        """Move the log into the file, so that its space is used again."""
        self.connection.execute("PRAGMA wal_checkpoint(RESTART)")

    def limit_growth(self, is_limited: bool) -> None:
        """Keep the file at its size, so that what is left of the disk serves the log, or let it grow again."""
        pages = self.connection.execute("PRAGMA page_count").fetchone()[0] if is_limited else _MAX_PAGES
        self.connection.execute(f"PRAGMA max_page_count = {pages}")

    def close_connection(self, keep_log: bool = False) -> None:
        """Close the connection. `keep_log` keeps what closing would remove, for the salvage."""
        saved = beside(self.path, "-wal.saved")
        if keep_log:
            saved.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                os.link(beside(self.path, "-wal"), saved)
        with contextlib.suppress(sqlite3.Error):
            self.connection.close()
        if keep_log and saved.exists():
            saved.replace(beside(self.path, "-wal"))

    def close(self) -> None:
        self.close_connection()
        self._lock_file.close()
