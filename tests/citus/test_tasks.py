"""Reads of one series and commits need one task of one node; sizes and upgrades of a distributed installation."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import numpy as np
import psycopg
import pytest
from django.core.management import call_command

from metrics.checks import DISTRIBUTED_MODELS
from metrics.models import Series
from metrics.query.execute import execute_query
from metrics.query.latest import read_latest_points
from metrics.query.query import Query
from metrics.storage.connection import connect, read_connection
from metrics.storage.merge import schedule
from metrics.storage.read.point_totals import count_series_points
from metrics.storage.shards import shard_of
from metrics.storage.write.group_commit import IncomingPoints, JournalEntry, writer
from tests.citus import cluster
from tests.citus.cluster import CitusCluster
from tests.conftest import point
from tests.metrics.test_storage import TODAY

SHARDS = 8
TABLES = [model._meta.db_table for model in DISTRIBUTED_MODELS]


@pytest.fixture
def shards(settings: Any) -> int:
    """Several shards; request this fixture before `site` or a client."""
    if cluster.running is None:
        pytest.skip("run by `make test-citus`")
    settings.SHARDS = SHARDS
    return SHARDS


@pytest.fixture
def nodes(shards: int) -> CitusCluster:
    assert cluster.running is not None
    return cluster.running


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """The statements on distributed tables that run during the test, with their parameters."""
    recorded: list[tuple[str, Any]] = []
    execute = psycopg.Cursor.execute

    def record(self: Any, query: Any, parameters: Any = None, **options: Any) -> Any:
        if isinstance(query, str) and "EXPLAIN" not in query and any(table in query for table in TABLES):
            recorded.append((query, parameters))
        return execute(self, query, parameters, **options)

    monkeypatch.setattr(psycopg.Cursor, "execute", record)
    return recorded


def recorded_tasks(statements: list[tuple[str, Any]]) -> dict[str, list[int]]:
    """Return the tasks of each recorded statement."""
    return {statement: count_tasks(statement, parameters) for statement, parameters in list(statements)}


def count_tasks(statement: str, parameters: Any) -> list[int]:
    """Return the number of tasks of each distributed part of a statement, by EXPLAIN."""
    with connect() as connection, psycopg.ClientCursor(connection) as cursor:  # Citus explains no parameters
        row = cursor.execute(f"EXPLAIN (FORMAT JSON) {statement}", parameters).fetchone()
    assert row is not None
    return list(_task_counts(row[0] if isinstance(row[0], list) else json.loads(row[0])))


def _task_counts(plan: Any) -> Iterator[int]:
    if isinstance(plan, dict):
        if "Task Count" in plan:
            yield plan["Task Count"]
        plan = list(plan.values())
    if isinstance(plan, list):
        for part in plan:
            yield from _task_counts(part)


def store_one_point_per_shard(admin: Any) -> dict[int, str]:
    """Store a point of one metric in each of several shards; return metric names by shard."""
    body = {"data_points": [point(f"m{number}", float(number)) for number in range(64 * SHARDS)]}
    assert admin.post("devices/d/telemetry/batch", body).json["ingested_count"] == 64 * SHARDS
    by_shard = {shard_of(series.pk): series.metric_name for series in Series.objects.all()}
    assert sorted(by_shard) == list(range(SHARDS))
    return by_shard


@pytest.mark.parametrize("is_merged", [False, True], ids=["unmerged", "merged"])
def test_read_of_one_series_has_one_task(shards, admin, statements, is_merged):
    names = store_one_point_per_shard(admin)
    if is_merged:
        with connect() as connection:
            schedule.merge_commits(connection, force=True)
            schedule.merge_days(connection, force=True)
            schedule._delete_merged_commits(connection, keep=0.0)
    now = datetime.now(UTC)
    query = Query((names[3],), now - timedelta(days=40), now + timedelta(minutes=1), ("d",))
    hourly = replace(query, aggregation="avg", interval=3600)
    series = np.array([Series.objects.get(metric_name=names[3]).pk])
    expected = float(names[3].removeprefix("m"))
    statements.clear()
    assert [newest.value for newest in read_latest_points(["d"], [names[3]]).points] == [expected]
    assert [one.values for one in execute_query(query).series] == [[expected]]
    assert [one.values for one in execute_query(hourly).series] == [[expected]]
    with read_connection() as connection:
        assert count_series_points(connection, series, range(1)).total.tolist() == [1]
    tasks = recorded_tasks(statements)
    assert len(tasks) >= 6
    assert {statement: counts for statement, counts in tasks.items() if set(counts) != {1}} == {}


def test_read_of_every_series_has_at_most_one_task_per_shard(shards, admin, statements):
    store_one_point_per_shard(admin)
    statements.clear()
    assert len(read_latest_points(["d"], None).points) == 64 * SHARDS
    tasks = recorded_tasks(statements)
    assert tasks and all(max(counts) <= SHARDS for counts in tasks.values())


def test_commit_of_one_shard_has_one_task(shards, site, statements):
    writer().submit([IncomingPoints([1], [TODAY], [1.0])], JournalEntry("test", 0.0, 1))
    statements.clear()
    writer().submit([IncomingPoints([1], [TODAY + 1], [1.0])], JournalEntry("test", 0.0, 1))
    tasks = recorded_tasks(statements)
    assert len(tasks) == 3
    assert {count for counts in tasks.values() for count in counts} == {1}


def test_table_sizes_include_those_on_the_workers(shards, admin):
    store_one_point_per_shard(admin)
    output = StringIO()
    call_command("storage", "--json", stdout=output)
    report = json.loads(output.getvalue())
    assert report["points"] == 64 * SHARDS and report["bytes"] == sum(report["tables"].values())
    assert report["tables"]["metrics_young"] >= 8192 * SHARDS
    assert report["tables"]["metrics_rollup"] > 0


def test_distribute_copies_no_table_and_can_be_repeated(shards, site):
    output = StringIO()
    call_command("distribute", stdout=output)
    assert output.getvalue() == "all tables are distributed already\n"
    with connect() as connection:
        rows = connection.execute("SELECT logicalrelid::text, partmethod FROM pg_dist_partition").fetchall()
    assert sorted(rows) == sorted((table, "h") for table in TABLES)
