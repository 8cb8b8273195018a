"""What the first release stored reads the same after every migration there has been since.

`recorded/first_schema.json` holds the rows of a database of that schema, as PostgreSQL gave them, and the points that
were written to it: young, merged and settled ones, rewritten ones, texts among them. It is never made anew.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from metrics.apps import create_initial_rows
from metrics.storage.connection import connect
from tests.forked_process import Database, run_forked
from tests.metrics import counted, steps
from tests.metrics.steps import Points, Row

FIRST = [("metrics", "0002_storage")]
RECORDED = json.loads((Path(__file__).parent / "recorded" / "first_schema.json").read_text())
NOW = RECORDED["now"]  # µs
POINTS: Points = {
    (series, at): (value.encode() if isinstance(value, str) else value, entry.encode())
    for series, at, value, entry in RECORDED["points"]
}


def restore() -> None:
    """The first schema, with the recorded rows in it."""
    MigrationExecutor(connection).migrate(FIRST)
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


def journal() -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT seq, at, entries, digest::text, checksum::text FROM metrics_journal ORDER BY seq")
        return list(cursor.fetchall())


def settled_rows() -> list[tuple[Any, ...]]:
    """Whether rows of finished days say how long they are kept: (True,), (False,) or both."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT keep IS NOT NULL FROM metrics_block WHERE level = 100")
        return list(cursor.fetchall())


def count() -> tuple[Any, ...]:
    """What is counted by series, what is stored, and what waits to be counted, before and after the task of workers."""
    waited = pending()
    steps.work("merge_blocks")
    with connect() as storage:
        return waited, pending(), counted.check(storage)


def pending() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM metrics_count WHERE pending IS NOT NULL")
        return int(cursor.fetchone()[0])


def newest(points: Points) -> dict[str, tuple[int, Any]]:
    return {
        f"m{series}": (at, value.decode() if isinstance(value, bytes) else value)
        for (series, at), (value, _) in sorted(points.items())
    }


def test_points_of_the_first_schema_read_the_same_after_all_migrations(database: Database) -> None:
    run_forked(database, restore)
    written = run_forked(database, journal)
    run_forked(database, migrate)
    assert run_forked(database, journal) == written and len(written) == 40
    assert run_forked(database, steps.everything, NOW) == (POINTS, newest(POINTS))

    waited, left, _ = run_forked(database, count)  # what was stored before anybody counted
    assert waited and not left

    for rounds in ([([], "young")], [([], "everything")]):
        run_forked(database, steps.fill, rounds)
        assert run_forked(database, steps.everything, NOW) == (POINTS, newest(POINTS))
    assert run_forked(database, count) == (0, 0, Counter(series for series, _ in POINTS))

    assert run_forked(database, settled_rows) == [(True,)]  # days of the first schema are made anew, by policy

    rewritten: list[Row] = [(series, at, -1.0, b"") for series, at in list(POINTS)[::3]]
    run_forked(database, steps.fill, [([rewritten], "everything")])
    book = POINTS | {(series, at): (b"-1.0" if series == steps.TEXT else -1.0, b"") for series, at, _, _ in rewritten}
    assert run_forked(database, steps.everything, NOW) == (book, newest(book))
    assert run_forked(database, count) == (0, 0, Counter(series for series, _ in book))
