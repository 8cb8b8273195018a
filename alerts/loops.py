"""The evaluation loop and the delivery loop, each in a thread: of `manage.py run_alerts` and of every Celery worker.

They do not use the Celery queue: if Redis is down or was emptied, alerts are evaluated and delivered all the same.
Any number of processes may run them. One of them evaluates: the one that holds an advisory lock. After its end, another
takes over within a second. If it is frozen, its lock is taken away after EVALUATOR_TIMEOUT without a heartbeat.
"""

import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import psycopg
from django.db import InterfaceError, OperationalError, close_old_connections, connection

from alerts.evaluation.evaluator import Evaluator, EvaluatorReplaced
from alerts.evaluation.failures import record_failure
from alerts.notifications.sender import Sender
from metrics.storage.connection import Connection, dedicated_connection
from metrics.storage.errors import StorageError
from metrics.storage.locks import lock_evaluation, terminate_idle_evaluator

log = logging.getLogger(__name__)

POLL_INTERVAL = 0.1  # seconds between looks for new commits
RETRY_INTERVAL = 1.0  # seconds after a failure, and between attempts to get the lock
HEARTBEAT_INTERVAL = 1.0  # seconds between statements on the connection that holds the lock
EVALUATOR_TIMEOUT = 10.0  # seconds without a heartbeat after which the lock is taken away
STOP_TIMEOUT = 5.0  # seconds for a loop to end


@contextmanager
def heartbeat(lock_connection: Connection) -> Iterator[None]:
    """Execute a statement on the connection every second while the block runs."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(HEARTBEAT_INTERVAL):
            try:
                lock_connection.execute("")
            except psycopg.Error:  # the evaluator gets the same error, and logs it
                return

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class EvaluationLoop(threading.Thread):
    """Evaluates new points while this process holds the lock. Sets `notify` when the sender has something to do."""

    def __init__(self, notify: threading.Event) -> None:
        super().__init__(name="evaluation", daemon=True)
        self._stopping = threading.Event()
        self._notify = notify

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                with dedicated_connection() as lock_connection:
                    if lock_evaluation(lock_connection):
                        with heartbeat(lock_connection):
                            self._evaluate(Evaluator(lock_connection))
                    elif terminate_idle_evaluator(lock_connection, EVALUATOR_TIMEOUT):
                        log.warning("no heartbeat of the evaluator for %.0f s: its lock is released", EVALUATOR_TIMEOUT)
            except (StorageError, OperationalError, InterfaceError) as error:
                log.warning("evaluation waits for the database: %s", str(error).split("\n")[0])
            except EvaluatorReplaced:
                log.warning("another evaluator has taken over")
            except Exception as error:
                log.exception("evaluation failed and is restarted")
                record_failure(error)
            close_old_connections()
            self._stopping.wait(RETRY_INTERVAL)
        connection.close()

    def request_stop(self) -> None:
        self._stopping.set()

    def _evaluate(self, evaluator: Evaluator) -> None:
        while not self._stopping.is_set():
            commits = evaluator.step()
            if evaluator.take_changes():
                self._notify.set()
            if not commits:
                self._stopping.wait(POLL_INTERVAL)


class DeliveryLoop(threading.Thread):
    """Sends due notifications. Looks at once when `notify` is set."""

    def __init__(self, notify: threading.Event) -> None:
        super().__init__(name="delivery", daemon=True)
        self._stopping = threading.Event()
        self._notify = notify

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                Sender().run(self._stopping, self._notify)
            except Exception:
                log.exception("delivery failed and is restarted")
                self._stopping.wait(RETRY_INTERVAL)

    def request_stop(self) -> None:
        self._stopping.set()
        self._notify.set()


LOOPS: dict[str, type[EvaluationLoop] | type[DeliveryLoop]] = {"evaluation": EvaluationLoop, "delivery": DeliveryLoop}


def start_loops(names: Iterable[str] = tuple(LOOPS)) -> Sequence[EvaluationLoop | DeliveryLoop]:
    """Start these loops in this process."""
    notify = threading.Event()
    loops = [LOOPS[name](notify) for name in names]
    for loop in loops:
        loop.start()
    return loops


def stop_loops(loops: Sequence[EvaluationLoop | DeliveryLoop]) -> None:
    """Ask all loops to end, then wait up to STOP_TIMEOUT for each."""
    for loop in loops:
        loop.request_stop()
    for loop in loops:
        loop.join(STOP_TIMEOUT)
