"""A worker or PostgreSQL is killed at any step of merging and retention; every point stays as it was.

The step runs in a separate process. A trigger makes PostgreSQL wait, right after the statement that the test names,
for a lock that the test holds; then the process is killed with `kill -9`, and the step runs again.
"""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.forked_process import ForkedProcess, run_forked
from tests.metrics import process_steps
from tests.metrics.process_steps import SERIES, TEXT_SERIES, Points, Row
from tests.metrics.test_storage import DAY
from tests.private_postgres import PrivatePostgres
from tests.telemetry_site.site_process import wait_until

pytestmark = pytest.mark.slow

LOCK = 4711
WAITS = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = %s"
LIVES = "SELECT 1 FROM pg_stat_activity WHERE pid = %s"
DAYS_AGO = {"commits": 0, "runs": 0, "day": 3, "retention": 100}  # days ago of the points that a step processes
TASKS = {
    "commits": "merge_young_blocks",
    "runs": "merge_blocks",
    "day": "merge_blocks",
    "retention": "drop_expired",
}
STATEMENTS = {
    "commits": [
        ("INSERT", "metrics_block"),
        ("INSERT", "metrics_latest"),
        ("UPDATE", "metrics_merged"),
        ("DELETE", "metrics_young"),
    ],
    "runs": [("DELETE", "metrics_block"), ("INSERT", "metrics_block")],
    "day": [("DELETE", "metrics_block"), ("INSERT", "metrics_block")],
    "retention": [("DELETE", "metrics_ingestedbatch"), ("DELETE", "metrics_journal"), ("DELETE", "metrics_block")],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivatePostgres]:
    postgres = PrivatePostgres(tmp_path_factory.mktemp("own"))
    with postgres.connect() as connection:
        connection.execute(
            "CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS"
            f" 'BEGIN PERFORM pg_advisory_xact_lock({LOCK}); RETURN NULL; END'"
        )
    run_forked(postgres.database, process_steps.migrate)
    yield postgres
    postgres.kill()


@dataclass
class FaultStorage:
    """A storage on a private server, and a model of what it must return."""

    server: PrivatePostgres
    now: int = field(default_factory=lambda: int(time.time() * 1_000_000))  # µs
    model: Points = field(default_factory=dict)
    rng: random.Random = field(default_factory=lambda: random.Random(20260501))

    def commits(self, count: int, days_ago: tuple[int, ...]) -> list[list[Row]]:
        """Return commits of few points at few times, so that writes overlap, and add them to the model."""
        commits = []
        for _ in range(count):
            rows = {}
            for _ in range(20):
                day = self.now // DAY - self.rng.choice(days_ago)
                key = (self.rng.choice(SERIES), day * DAY + self.rng.randrange(200) * 300_000_000)
                rows[key] = (float(self.rng.randrange(1000)), self.rng.choice([b"", b'["celsius"]']))
            commits.append([(*key, *row) for key, row in rows.items()])
            self.model |= {
                key: (repr(value).encode() if key[0] == TEXT_SERIES else value, entry)
                for key, (value, entry) in rows.items()
            }
        return commits

    def prepare(self, step: str) -> None:
        """Prepare a storage in which the step has work to do."""
        days = tuple({DAYS_AGO[step], 3, 50})
        rounds = [(self.commits(20, days), "everything")]
        if step == "commits":
            rounds.append((self.commits(70, days), ""))
        else:
            rounds += [(self.commits(4, days), "commits") for _ in range(12)]
        run_forked(self.server.database, process_steps.reset_storage)
        run_forked(self.server.database, process_steps.store_and_merge, rounds)

    def retained_points(self) -> Points:
        """Return the points within their retention."""
        return {key: value for key, value in self.model.items() if key[1] > self.now - 90 * DAY}

    def newest(self) -> dict[str, tuple[int, Any]]:
        points: dict[str, tuple[int, Any]] = {}
        for (series, at), (value, _) in sorted(self.retained_points().items()):
            points[f"m{series}"] = (at, value.decode() if isinstance(value, bytes) else value)
        return points

    def differences(self) -> dict[str, int]:
        """Count the differences from the model; expired points may exist or not."""
        points, newest = run_forked(self.server.database, process_steps.read_everything, self.now)
        return {
            "lost": len(self.retained_points().keys() - points.keys()),
            "phantom": len(points.keys() - self.model.keys()),
            "wrong": sum(self.model.get(key) != value for key, value in points.items()),
            "latest": sum(newest.get(name) != point for name, point in self.newest().items()),
        }


NO_DIFFERENCE = {"lost": 0, "phantom": 0, "wrong": 0, "latest": 0}


@pytest.mark.parametrize("victim", ["worker", "postgres"])
@pytest.mark.parametrize("step", list(STATEMENTS))
def test_step_killed_after_any_statement_changes_no_point(server: PrivatePostgres, step: str, victim: str) -> None:
    storage = FaultStorage(server)
    storage.prepare(step)
    for statement, table in STATEMENTS[step]:
        kill_during(server, victim, (process_steps.run_task, TASKS[step]), statement, table)
        assert storage.differences() == NO_DIFFERENCE, (statement, table)
    run_forked(server.database, process_steps.run_task, TASKS[step])
    assert storage.differences() == NO_DIFFERENCE
    assert run_forked(server.database, process_steps.run_task, TASKS[step]) == 0  # no work is left
    if step == "retention":
        assert (
            run_forked(server.database, process_steps.read_everything, storage.now)[0].keys()
            == storage.retained_points().keys()
        )


def kill_during(server: PrivatePostgres, victim: str, step: tuple[Any, ...], statement: str, table: str) -> None:
    """Start a step (a function and its arguments), and kill the worker or PostgreSQL when it reaches a statement."""
    with server.connect() as connection:
        connection.execute(f"CREATE TRIGGER pause AFTER {statement} ON {table} EXECUTE FUNCTION pause()")
        connection.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        running = ForkedProcess(server.database, *step)
        (backend,) = wait_until(lambda: connection.execute(WAITS, (LOCK,)).fetchone(), 20, f"{statement} is reached")
        if victim == "postgres":
            server.kill()
            server.start()
            assert "StorageUnavailable" in running.failure()
        else:
            running.kill()
            connection.execute("SELECT pg_advisory_unlock(%s)", (LOCK,))
            wait_until(lambda: not connection.execute(LIVES, (backend,)).fetchone(), 20, "its connection ends")
    with server.connect() as connection:
        connection.execute(f"DROP TRIGGER pause ON {table}")
