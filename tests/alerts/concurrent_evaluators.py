"""Two evaluators at once, without the lock, and a check for duplicate open alerts."""

import threading
from collections import Counter

from django.db import connection

from alerts.evaluation.evaluator import Evaluator, EvaluatorReplaced
from metrics.storage.connection import dedicated_connection

DUPLICATE_ALERTS = """
SELECT rule_id, device_id, metric_name, count(*) FROM alerts_alert WHERE status IN ('active', 'acknowledged')
GROUP BY 1, 2, 3 HAVING count(*) > 1
"""


class ConcurrentEvaluators:
    """Two evaluators on the same points, and a thread that looks for duplicate open alerts."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.commits: Counter[int] = Counter()
        self.replaced: Counter[int] = Counter()
        self.duplicates: list[object] = []
        self.failures: list[BaseException] = []

    def evaluate(self, number: int) -> None:
        """Evaluate without the lock; start again from the database when the other evaluator was faster."""
        while not self.stop.is_set():
            try:
                with dedicated_connection() as connection_of_evaluator:
                    evaluator = Evaluator(connection_of_evaluator)
                    while not self.stop.is_set():
                        self.commits[number] += evaluator.step()
            except EvaluatorReplaced:
                self.replaced[number] += 1
            except BaseException as failure:
                self.failures.append(failure)
        connection.close()

    def find_duplicates(self) -> None:
        while not self.stop.wait(0.01):
            with connection.cursor() as cursor:
                cursor.execute(DUPLICATE_ALERTS)
                self.duplicates += cursor.fetchall()
        connection.close()

    def threads(self) -> list[threading.Thread]:
        evaluators = [threading.Thread(target=self.evaluate, args=(number,)) for number in range(2)]
        return [*evaluators, threading.Thread(target=self.find_duplicates)]
