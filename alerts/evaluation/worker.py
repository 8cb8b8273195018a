"""Evaluation and delivery as parts of every Celery worker, in threads of their own.

They do not come by the queue: a Redis that is down or was emptied neither stops nor delays them. Of several workers
one evaluates, whoever holds the lock; when it is gone the next one does within a second, and when it is frozen, within
some more: a process that lives is heard on the lock's connection every second, also while it judges for long.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from django.db import close_old_connections, connection

from alerts.evaluation.evaluator import Evaluator
from alerts.notifications.sender import Sender
from metrics.storage.connection import Connection, dedicated_connection
from metrics.storage.errors import StorageError
from metrics.storage.locks import lock_evaluation, terminate_idle_evaluator

log = logging.getLogger(__name__)

POLL = 0.1  # seconds between looks for new commits
PAUSE = 1.0  # seconds after a failure, or until the lock is tried again
BEAT = 1.0  # seconds between signs of life of who holds the lock
SILENT = 10.0  # seconds without one after which the lock is taken away


@contextmanager
def heard(own: Connection) -> Iterator[None]:
    """Something is asked on the connection every second while the block runs, whatever else is done on it."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT):
            try:
                own.execute("")
            except psycopg.Error:  # which the evaluator meets, too, and says
                return

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Evaluation(threading.Thread):
    """The evaluator of this process, whenever nobody else evaluates. `told` is set when there is something to send."""

    def __init__(self, told: threading.Event) -> None:
        super().__init__(name="evaluation", daemon=True)
        self._stopping = threading.Event()
        self._told = told

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                with dedicated_connection() as own:
                    if lock_evaluation(own):
                        with heard(own):
                            self._evaluate(Evaluator(own))
                    elif terminate_idle_evaluator(own, SILENT):
                        log.warning("whoever evaluated was not heard of for %.0f s: another takes over", SILENT)
            except StorageError as error:
                log.warning("evaluation waits for the database: %s", str(error).split("\n")[0])
            except Exception:
                log.exception("evaluation begins anew")
            close_old_connections()
            self._stopping.wait(PAUSE)
        connection.close()

    def stop(self) -> None:
        self._stopping.set()
        self.join(5)

    def _evaluate(self, evaluator: Evaluator) -> None:
        while not self._stopping.is_set():
            judged = evaluator.step()
            if evaluator.has_told():
                self._told.set()
            if not judged:
                self._stopping.wait(POLL)


class Delivery(threading.Thread):
    """The sender of this process; every worker has one."""

    def __init__(self, told: threading.Event) -> None:
        super().__init__(name="delivery", daemon=True)
        self._stopping = threading.Event()
        self._told = told

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                Sender().run(self._stopping, self._told)
            except Exception:
                log.exception("delivery begins anew")
                self._stopping.wait(PAUSE)

    def stop(self) -> None:
        self._stopping.set()
        self._told.set()
        self.join(5)


_running: list[Evaluation | Delivery] = []


def start() -> None:
    """Begin, in this process."""
    told = threading.Event()
    _running.extend((Evaluation(told), Delivery(told)))
    for thread in _running:
        thread.start()


def stop() -> None:
    """End, with what was begun."""
    for thread in _running:
        thread.stop()
    _running.clear()
