"""Two evaluators at once, which the lock forbids, and one who looks whether anything is ever open twice."""

import threading
from collections import Counter

from django.db import connection

from alerts.evaluation.evaluator import Evaluator, EvaluatorReplaced
from metrics.storage.connection import dedicated_connection

TWO_OPEN = """
SELECT rule_id, device_id, metric_name, count(*) FROM alerts_alert WHERE status IN ('active', 'acknowledged')
GROUP BY 1, 2, 3 HAVING count(*) > 1
"""


class Pair:
    """What two evaluators do at the same points, and a third party that looks whether anything is open twice."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.judged: Counter[int] = Counter()
        self.overtaken: Counter[int] = Counter()
        self.twice: list[object] = []
        self.failures: list[BaseException] = []

    def judge(self, number: int) -> None:
        """Without the lock, and from the database again whenever the other one was faster."""
        while not self.over.is_set():
            try:
                with dedicated_connection() as own:
                    evaluator = Evaluator(own)
                    while not self.over.is_set():
                        self.judged[number] += evaluator.step()
            except EvaluatorReplaced:
                self.overtaken[number] += 1
            except BaseException as failure:
                self.failures.append(failure)
        connection.close()

    def look(self) -> None:
        while not self.over.wait(0.01):
            with connection.cursor() as cursor:
                cursor.execute(TWO_OPEN)
                self.twice += cursor.fetchall()
        connection.close()

    def threads(self) -> list[threading.Thread]:
        judges = [threading.Thread(target=self.judge, args=(number,)) for number in range(2)]
        return [*judges, threading.Thread(target=self.look)]
