"""Deletion of expired points, batch ids and journal lines."""

from metrics.models import MetricDefinition
from metrics.storage.connection import connect
from metrics.storage.merge import schedule
from metrics.storage.merge.apply_retention_policy import regroup_rows
from metrics.storage.merge.retention import delete_expired
from metrics.storage.read import block_cache
from tests.metrics.stored_points import read_stored_parts
from tests.metrics.test_storage import DAY, TODAY, points_by_key, store_points

NOW = TODAY / 1_000_000 + 3600  # seconds


def read_remaining_days(connection) -> set[int]:
    schedule.merge_commits(connection, force=True)
    regroup_rows(connection)
    delete_expired(connection, now=NOW)
    block_cache.clear_block_cache()
    return {(TODAY - time) // DAY for _, time in points_by_key(read_stored_parts([1], TODAY - 4000 * DAY, TODAY + DAY))}


def test_points_are_deleted_after_ninety_days_and_the_rest_of_their_day(site):
    store_points([(1, TODAY - age * DAY, 1.0, b"") for age in (0, 89, 90, 91, 92, 93, 400)])
    with connect() as connection:
        assert read_remaining_days(connection) == {0, 89, 90}


def test_metric_with_longer_retention_keeps_older_days(site):
    MetricDefinition.objects.create(name="slow", data_type="numeric", retention_days=365)
    store_points([(1, TODAY - age * DAY, 1.0, b"") for age in (0, 91, 200, 366, 400)])
    with connect() as connection:
        assert read_remaining_days(connection) == {0, 91, 200}


def test_only_expired_batch_ids_and_journal_lines_are_deleted(site):
    store_points([(1, TODAY, 1.0, b"")])
    store_points([(1, TODAY, 2.0, b"")])
    with connect() as connection:
        connection.execute("UPDATE metrics_journal SET at = now() - interval '31 days' WHERE seq = 1")
        for batch_id, age in (("old", 8), ("recent", 6)):
            connection.execute(
                "INSERT INTO metrics_ingestedbatch VALUES ('d', %s, now() - make_interval(days => %s), '{}')",
                (batch_id, age),
            )
        delete_expired(connection)
        assert connection.execute("SELECT seq FROM metrics_journal").fetchall() == [(2,)]
        assert connection.execute("SELECT batch_id FROM metrics_ingestedbatch").fetchall() == [("recent",)]
