"""The shard count is fixed at the first start, and distributed tables meet the conditions of Citus."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.db import models
from django.test.utils import isolate_apps

import metrics
from metrics.apps import create_initial_rows
from metrics.checks import DISTRIBUTED_MODELS, check_distributed_tables
from metrics.storage import shards as sharding
from metrics.storage.connection import connect
from metrics.storage.merge import schedule
from metrics.storage.write.group_commit import AnsweredBatch, JournalEntry, writer
from metrics.storage.write.incoming import IncomingPoints
from telemetry_site.env import InvalidSetting
from tests.citus import cluster
from tests.conftest import point
from tests.metrics.test_storage import TODAY, shards, store_points

__all__ = ["shards"]


def shards_in_table(table: str) -> list[int]:
    with connect() as connection:
        return [shard for (shard,) in connection.execute(f"SELECT shard FROM {table} ORDER BY shard").fetchall()]


def test_initial_rows_exist_for_every_shard(shards, site):
    assert shards_in_table("metrics_head") == shards_in_table("metrics_merged") == list(range(shards))


def test_shard_count_of_an_empty_installation_can_be_changed(settings, site):
    for number in (4, 2):
        settings.SHARDS = number
        create_initial_rows("default")
        assert shards_in_table("metrics_head") == shards_in_table("metrics_merged") == list(range(number))


def test_shard_count_cannot_be_changed_once_data_exists(settings, site):
    store_points([(1, TODAY, 1.0, b"")])
    settings.SHARDS = 3
    with pytest.raises(
        sharding.ShardCountMismatch,
        match=r"^this database was created with TELEMETRY_SHARDS=1, which cannot be changed",
    ):
        create_initial_rows("default")
    assert [error.id for error in run_checks(tags=["storage"], databases=["default"])] == ["metrics.E003"]
    assert run_checks(tags=["storage"]) == []  # only commands that check databases read it
    assert shards_in_table("metrics_head") == [0]


@pytest.mark.slow
def test_start_with_another_shard_count_fails_with_one_line(settings, site):
    store_points([(1, TODAY, 1.0, b"")])
    settings.SHARDS = 3
    with pytest.raises(InvalidSetting, match=r"^TELEMETRY_SHARDS='3' is invalid: this database was created with"):
        call_command("provision")


def test_writer_with_another_shard_count_stores_nothing(settings, site):
    settings.SHARDS = 3
    with pytest.raises(sharding.ShardCountMismatch):
        writer().submit([IncomingPoints([1], [TODAY], [1.0])], JournalEntry("test", 0.0, 1))
    with connect() as connection:
        assert connection.execute("SELECT count(*) FROM metrics_young").fetchone() == (0,)


def test_ingest_with_another_shard_count_returns_503(settings, admin):
    settings.SHARDS = 3
    response = admin.post("devices/d/telemetry", point())
    assert response.status == 503 and "created with TELEMETRY_SHARDS=1," in response.json["detail"]


@pytest.mark.slow
@pytest.mark.parametrize("value", ["0", "65", "two"])
def test_invalid_shard_count_is_rejected_with_the_accepted_range(value, tmp_path):
    completed = subprocess.run(
        [sys.executable, "manage.py", "check"],
        env={"PATH": "", "TELEMETRY_SHARDS": value, "TELEMETRY_DATA_DIR": str(tmp_path)},
        cwd=Path(metrics.__file__).parents[1],
        capture_output=True,
        text=True,
    )
    line = f"TELEMETRY_SHARDS='{value}' is invalid: a whole number from 1 to 64 is accepted\n"
    assert (completed.returncode, completed.stderr) == (2, line)


def test_repeated_batch_over_several_shards_is_stored_once(shards, admin):
    with connect() as connection:  # the series of the batch are in three buckets
        for number in range(3):
            connection.execute(
                "INSERT INTO metrics_device VALUES (%s, %s, '', NULL, now()) ON CONFLICT DO NOTHING", (1, "d")
            )
            connection.execute("INSERT INTO metrics_series VALUES (%s, %s, 0, 1)", (1 + 256 * number, f"m{number}"))
    body = {"data_points": [point(f"m{number}", 1.0) for number in range(3)], "batch_id": "b"}
    responses = [admin.post("devices/d/telemetry/batch", body) for _ in range(3)]
    assert [response.json for response in responses] == [responses[0].json] * 3 and responses[0].json[
        "ingested_count"
    ] == 3
    assert shards_in_table("metrics_young") == list(range(shards))
    with connect() as connection:
        entries = connection.execute("SELECT shard, entries FROM metrics_journal ORDER BY shard").fetchall()
        assert connection.execute("SELECT count(*) FROM metrics_ingestedbatch").fetchone() == (1,)
    requests = [[item for item in json.loads(items) if item["sender"] != "audit"] for _, items in entries]
    assert [len(items) for items in requests] == [1] + [0] * (shards - 1)
    series = admin.post("latest", {"metrics": [f"m{number}" for number in range(3)]}).json["series"]
    assert [item["value"] for item in series] == [1.0] * 3


def test_failed_commit_over_several_shards_stores_nothing(shards, site):
    with pytest.raises(Exception, match="cannot be converted to text"):
        writer().submit(
            [IncomingPoints([1, 256], [TODAY] * 2, [1.0] * 2)],
            JournalEntry("test", 0.0, 2),
            AnsweredBatch("nul\0", "b", "", {}),
        )
    assert shards_in_table("metrics_young") == []
    store_points([(1, TODAY, 1.0, b""), (256, TODAY, 1.0, b"")])  # the writer continues
    assert shards_in_table("metrics_young") == list(range(min(shards, 2)))


# --- distribution over workers ----------------------------------------------------------------------


def test_distribute_with_one_shard_fails_with_instructions(site):
    with pytest.raises(CommandError, match=r"TELEMETRY_SHARDS is 1\. Start a new installation with several") as raised:
        call_command("distribute")
    assert raised.value.returncode == 2


@pytest.mark.skipif(cluster.running is not None, reason="this database has Citus")
def test_distribute_without_citus_fails_with_one_line(settings, site):
    settings.SHARDS = 8
    create_initial_rows("default")
    with pytest.raises(CommandError, match=r"^this database has no Citus: .* CREATE EXTENSION citus") as raised:
        call_command("distribute")
    assert raised.value.returncode == 2 and "\n" not in str(raised.value)


def test_distribute_with_another_shard_count_fails(settings, site):
    store_points([(1, TODAY, 1.0, b"")])
    settings.SHARDS = 8
    with pytest.raises(CommandError, match="created with TELEMETRY_SHARDS=1"):
        call_command("distribute")


def test_distributed_tables_pass_the_check():
    assert check_distributed_tables() == []


@isolate_apps("metrics")
def test_check_reports_keys_without_shard_and_references_to_distributed_tables():
    class Distributed(models.Model):
        shard = models.IntegerField()
        name = models.TextField(unique=True)

        class Meta:
            app_label = "metrics"
            constraints = [
                models.UniqueConstraint(fields=["name"], name="without"),
                models.UniqueConstraint(fields=["shard", "name"], name="with"),
            ]

    class Referencing(models.Model):
        spread = models.ForeignKey(Distributed, models.CASCADE)

        class Meta:
            app_label = "metrics"

    errors = check_distributed_tables(models=(Distributed,), others=(Distributed, Referencing))
    assert [(error.id, error.msg) for error in errors] == [
        ("metrics.E001", "the primary key of Distributed lacks `shard`"),
        ("metrics.E001", "the unique field name of Distributed lacks `shard`"),
        ("metrics.E001", "the constraint without of Distributed lacks `shard`"),
        ("metrics.E002", "Referencing.spread references a distributed table"),
    ]


FILES_OVER_ALL_SHARDS = {"retention.py"}  # rows expire in all shards


def storage_statements():
    """Yield (file, text) of each SQL statement of the storage, and of each branch of a UNION and part of a WITH."""
    for file in sorted(Path(sharding.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
            if file.name not in FILES_OVER_ALL_SHARDS:
                for statement in re.split(r"UNION ALL|\n\), ", text):
                    if re.match(r"\s*[A-Z]{4}", statement):
                        yield file.name, statement


@pytest.mark.slow
def test_storage_statements_filter_by_shard():
    tables = "|".join(model._meta.db_table for model in DISTRIBUTED_MODELS)
    checked = [
        (name, statement)
        for name, statement in storage_statements()
        if re.search(rf"(FROM|INTO|UPDATE|JOIN|USING) ({tables})\b", statement)
    ]
    assert len(checked) > 20
    # A join on the shard is no filter: Citus then asks every node.
    shard_filter = r"(WHERE|AND)\b.*\bshard = (%|ANY\(%)|INTO \w+\s*\(shard,"
    unfiltered = {statement for _, statement in checked if not re.search(shard_filter, statement, re.DOTALL)}
    counts = {statement for statement in unfiltered if "FROM metrics_count" in statement}
    assert len(counts) == 5  # statistics, retention and rebuilds cover all shards
    assert unfiltered - counts == {  # these read all shards
        "SELECT count(*) FROM metrics_head",
        "SELECT count(*), coalesce(max(seq), 0) FROM metrics_head",
    }


# --- concurrent merges ------------------------------------------------------------------------------


def test_second_worker_merges_the_shards_that_are_not_locked(settings, site):
    settings.SHARDS = 3
    create_initial_rows("default")
    store_points([(256 * number, TODAY, 1.0, b"") for number in range(3)])
    with connect() as first, connect() as second:
        with first.transaction():
            assert schedule._merge_commits_once(first, 1, force=True) == 1
            assert schedule.merge_commits(second, force=True) == 2
        assert second.execute("SELECT shard, seq FROM metrics_merged ORDER BY shard").fetchall() == [
            (0, 1),
            (1, 1),
            (2, 1),
        ]


def test_gap_in_one_shard_does_not_stop_merging_others(settings, site):
    settings.SHARDS = 3
    create_initial_rows("default")
    for _ in range(3):
        store_points([(256 * number, TODAY, 1.0, b"") for number in range(3)])
    with connect() as connection:
        connection.execute("DELETE FROM metrics_young WHERE shard = 0 AND seq = 2")
        with pytest.raises(RuntimeError, match="commits of shard 0 are missing between 1 and 3"):
            schedule.merge_commits(connection, force=True)
        assert shards_in_table("metrics_young") == [0, 0]
