"""The orchestrator: claims due collectors and runs each in a thread, in every Celery worker.

It does not use the Celery queue, so collections are on time while Redis is down or tasks take long. A collection ends
at its deadline, when its sockets are shut down; one that hangs all the same is abandoned and delays no other.
"""

import logging
import secrets
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from django.db import close_old_connections
from django.db import connection as django_connection

from ingest.collection.claims import (
    Claim,
    CollectionResult,
    claim_due,
    count_failing_besides,
    finish,
    holds_lease,
    release,
)
from ingest.collection.run import Abandoned, collect, store
from metrics.storage.connection import Connection, dedicated_connection, read_connection
from metrics.storage.errors import StorageError

log = logging.getLogger(__name__)

MAX_PARALLEL = 256  # collections of one worker
POLL_INTERVAL = 0.2  # seconds between looks for due collectors
RETRY_INTERVAL = 1.0  # seconds after a failure of the database
GRACE = 2.0  # seconds after the deadline until a collection that hangs is abandoned
STOP_TIMEOUT = 5.0  # seconds for the loop and its collections to end


class RunningCollection(threading.Thread):
    """One collection. It is abandoned, or stores its result, but never both."""

    def __init__(self, claim: Claim) -> None:
        super().__init__(name=f"collector {claim.name}", daemon=True)
        self.claim = claim
        self.ends_at = time.monotonic() + claim.deadline + GRACE
        self._lock = threading.Lock()
        self._is_storing = self._is_abandoned = False

    def run(self) -> None:
        try:
            collected = collect(self.claim)
            with read_connection() as connection:
                failing = count_failing_besides(connection, self.claim)
            result = store(self.claim, collected, failing, self._begin_storing)
            with read_connection() as connection:
                finish(connection, self.claim, result, datetime.now(UTC))
        except Abandoned:
            log.warning("the collection %s of %s came too late", self.claim.snapshot_id, self.claim.name)
        except StorageError as error:  # another worker takes over after the lease
            log.warning("the collection of %s could not be stored: %s", self.claim.name, str(error).split("\n")[0])
        except Exception:
            log.exception("the collection of %s failed", self.claim.name)
        finally:
            django_connection.close()

    def abandon(self) -> bool:
        """Discard the result; return False if it is being stored already."""
        with self._lock:
            self._is_abandoned = not self._is_storing
            return self._is_abandoned

    def _begin_storing(self) -> bool:
        with self._lock:
            if self._is_abandoned:
                return False
            self._is_storing = True
        with read_connection() as connection:
            return holds_lease(connection, self.claim)


class CollectionLoop(threading.Thread):
    """Claims due collectors and watches over running collections."""

    def __init__(self) -> None:
        super().__init__(name="collectors", daemon=True)
        self._stopping = threading.Event()
        self._running: list[RunningCollection] = []
        self._abandoned: dict[int, RunningCollection] = {}
        self._worker = secrets.token_hex(8)

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                with dedicated_connection() as connection:
                    while not self._stopping.is_set():
                        self.step(connection)
                        self._stopping.wait(POLL_INTERVAL)
                    self._release_running(connection)
            except StorageError as error:
                log.warning("collectors wait for the database: %s", str(error).split("\n")[0])
            except Exception:
                log.exception("the collection loop failed and is restarted")
            close_old_connections()
            self._stopping.wait(RETRY_INTERVAL)

    def request_stop(self) -> None:
        self._stopping.set()

    def step(self, connection: Connection) -> None:
        """Abandon collections that hang, and start those that are due."""
        self._abandon_overdue(connection)
        free = MAX_PARALLEL - len(self._running) - len(self._abandoned)
        for claim in claim_due(connection, self._worker, free) if free > 0 else ():
            if claim.collector in self._abandoned:
                since = self._abandoned[claim.collector].claim.started_at
                detail = f"the collection of {since:%Y-%m-%dT%H:%M:%SZ} still hangs"
                finish(connection, claim, CollectionResult(0.0, error=detail), datetime.now(UTC))
                continue
            running = RunningCollection(claim)
            self._running.append(running)
            running.start()

    def _abandon_overdue(self, connection: Connection) -> None:
        self._running = [running for running in self._running if running.is_alive()]
        self._abandoned = {key: running for key, running in self._abandoned.items() if running.is_alive()}
        for running in [running for running in self._running if running.ends_at < time.monotonic()]:
            if running.abandon():
                self._running.remove(running)
                self._abandoned[running.claim.collector] = running
                claim = running.claim
                log.warning("the collection %s of %s hangs and is abandoned", claim.snapshot_id, claim.name)
                detail = f"did not end within {claim.deadline} s and was abandoned"
                result = CollectionResult((claim.deadline + GRACE) * 1000, error=detail)
                finish(connection, claim, result, datetime.now(UTC))

    def _release_running(self, connection: Connection) -> None:
        ends_at = time.monotonic() + STOP_TIMEOUT / 2
        for running in self._running:
            running.join(max(0.0, ends_at - time.monotonic()))
            if running.is_alive() and running.abandon():
                release(connection, running.claim)


def start_loops() -> Sequence[CollectionLoop]:
    """Start the orchestrator in this process."""
    loop = CollectionLoop()
    loop.start()
    return [loop]


def stop_loops(loops: Sequence[CollectionLoop]) -> None:
    """Ask the orchestrator to end, then wait up to STOP_TIMEOUT."""
    for loop in loops:
        loop.request_stop()
    for loop in loops:
        loop.join(STOP_TIMEOUT)
