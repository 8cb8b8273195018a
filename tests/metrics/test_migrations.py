"""The points of the first release read the same after every migration since.

`recorded/first_schema.json` has the rows of a database of that schema and the points that were written to it:
unmerged, merged and day blocks, replaced values and texts. It is never recorded again.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from metrics.apps import create_initial_rows
from metrics.storage.connection import connect
from tests.forked_process import Database, run_forked
from tests.metrics import point_count_checks, process_steps
from tests.metrics.process_steps import Points, Row

FIRST_SCHEMA = [("metrics", "0002_storage")]
RECORDED = json.loads((Path(__file__).parent / "recorded" / "first_schema.json").read_text())
NOW = RECORDED["now"]  # µs
POINTS: Points = {
    (series, at): (value.encode() if isinstance(value, str) else value, entry.encode())
    for series, at, value, entry in RECORDED["points"]
}


def restore_first_schema() -> None:
    """Create the first schema with the recorded rows."""
    MigrationExecutor(connection).migrate(FIRST_SCHEMA)
    with connection.cursor() as cursor:
        for table, rows in RECORDED["tables"].items():
            cursor.execute(f"TRUNCATE {table} CASCADE")
            cursor.execute(
                f"INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM json_populate_recordset(NULL::{table}, %s)",
                [json.dumps(rows)],
            )
            cursor.execute(
                "SELECT count(*) FROM information_schema.columns WHERE table_name = %s"
                " AND column_name = 'id' AND is_identity = 'YES'",
                [table],
            )
            if cursor.fetchone()[0]:
                cursor.execute(f"SELECT setval(pg_get_serial_sequence(%s, 'id'), max(id)) FROM {table}", [table])


def migrate() -> None:
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())
    create_initial_rows("default")


def read_journal() -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT seq, at, entries, digest::text, checksum::text FROM metrics_journal ORDER BY seq")
        return list(cursor.fetchall())


def rows_with_retention() -> list[tuple[Any, ...]]:
    """Return whether day blocks store their retention: (True,), (False,) or both."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT keep IS NOT NULL FROM metrics_block WHERE level = 100")
        return list(cursor.fetchall())


def check_counts() -> tuple[Any, ...]:
    """Return the pending ranges before and after the worker task, and the counts of every series."""
    pending = count_pending()
    process_steps.run_task("merge_blocks")
    with connect() as storage:
        return pending, count_pending(), point_count_checks.check_point_counts(storage)


def count_pending() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM metrics_count WHERE pending IS NOT NULL")
        return int(cursor.fetchone()[0])


def latest_values(points: Points) -> dict[str, tuple[int, Any]]:
    return {
        f"m{series}": (at, value.decode() if isinstance(value, bytes) else value)
        for (series, at), (value, _) in sorted(points.items())
    }


@pytest.mark.slow
def test_points_of_the_first_schema_read_the_same_after_all_migrations(database: Database) -> None:
    run_forked(database, restore_first_schema)
    journal = run_forked(database, read_journal)
    run_forked(database, migrate)
    assert run_forked(database, read_journal) == journal and len(journal) == 40
    assert run_forked(database, process_steps.read_everything, NOW) == (POINTS, latest_values(POINTS))

    pending, remaining, _ = run_forked(database, check_counts)  # points stored before counts existed
    assert pending and not remaining

    for rounds in ([([], "commits")], [([], "everything")]):
        run_forked(database, process_steps.store_and_merge, rounds)
        assert run_forked(database, process_steps.read_everything, NOW) == (POINTS, latest_values(POINTS))
    assert run_forked(database, check_counts) == (0, 0, Counter(series for series, _ in POINTS))

    assert run_forked(database, rows_with_retention) == [
        (True,)
    ]  # days of the first schema are rewritten with their retention

    rewritten: list[Row] = [(series, at, -1.0, b"") for series, at in list(POINTS)[::3]]
    run_forked(database, process_steps.store_and_merge, [([rewritten], "everything")])
    expected_points = POINTS | {
        (series, at): (b"-1.0" if series == process_steps.TEXT_SERIES else -1.0, b"") for series, at, _, _ in rewritten
    }
    assert run_forked(database, process_steps.read_everything, NOW) == (expected_points, latest_values(expected_points))
    assert run_forked(database, check_counts) == (0, 0, Counter(series for series, _ in expected_points))
