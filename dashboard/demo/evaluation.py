"""Have the alert rules evaluated on the points of the demo: by the worker, or here if none is running."""

import time

from django.db.models import Sum

from alerts.evaluation.evaluator import Evaluator
from alerts.evaluation.late_data import evaluate_late_ranges
from alerts.models import Cursor
from metrics.storage.connection import Connection, dedicated_connection
from metrics.storage.locks import lock_evaluation
from metrics.storage.read.commit_stream import read_stream_state

WAIT = 30.0  # seconds for the worker
POLL_INTERVAL = 0.2
SETTLED = 10_000_000  # µs: as if no more late points had come for this time


def evaluate() -> bool:
    """Return whether all stored points are evaluated, those of the history too."""
    with dedicated_connection() as connection:
        if lock_evaluation(connection):
            _run_evaluator(connection)
        elif not _wait_for_worker(connection):
            return False
    while evaluate_late_ranges(time.time_ns() // 1000 + SETTLED):
        pass
    return True


def _run_evaluator(connection: Connection) -> None:
    evaluator = Evaluator(connection)
    while evaluator.step():
        pass
    evaluator.report(read_stream_state(connection))


def _wait_for_worker(connection: Connection) -> bool:
    """Return whether the evaluator of a worker reaches the last commit in time."""
    last = sum(read_stream_state(connection).heads.values())
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        if (Cursor.objects.aggregate(seq=Sum("seq"))["seq"] or 0) >= last:
            return True
        time.sleep(POLL_INTERVAL)
    return False
