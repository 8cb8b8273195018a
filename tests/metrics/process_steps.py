"""Steps of the fault tests that run in separate processes: store points, run a task, read everything."""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management import call_command
from django.db import connection

from metrics import tasks
from metrics.apps import create_initial_rows
from metrics.devices import delete_device
from metrics.models import Deletion, Device, Series
from metrics.query import latest
from metrics.storage.connection import connect
from metrics.storage.format.codec import Kind
from metrics.storage.merge import schedule
from metrics.storage.units import to_microseconds
from rest.caller import Caller
from tests.metrics.stored_points import read_stored_parts
from tests.metrics.test_storage import DAY, points_by_key, store_points

NUMERIC_SERIES = [1, 2, 256, 300]  # series of two buckets
TEXT_SERIES = 301
SERIES = [*NUMERIC_SERIES, TEXT_SERIES]
ALL_TIMES = 200 * DAY

Row = tuple[int, int, float, bytes]
Points = dict[tuple[int, int], tuple[Any, bytes]]


def migrate() -> None:
    """Apply all migrations."""
    call_command("migrate", verbosity=0)


def reset_storage() -> None:
    """Delete all stored data, and create a device with a metric for each series."""
    with connection.cursor() as cursor:
        cursor.execute(
            "TRUNCATE metrics_young, metrics_block, metrics_latest, metrics_journal, metrics_head, metrics_merged,"
            " metrics_count, metrics_ingestedbatch, metrics_device, metrics_deletion CASCADE"
        )
    create_initial_rows("default")
    device = Device.objects.create(device_id="d")
    Series.objects.bulk_create(
        Series(
            pk=number,
            device=device,
            metric_name=f"m{number}",
            kind=Kind.STRING if number == TEXT_SERIES else Kind.NUMERIC,
        )
        for number in SERIES
    )


def store_and_merge(rounds: list[tuple[list[list[Row]], str]]) -> None:
    """Store commits, and after each round merge `commits`, `everything` or nothing."""
    for commits, merged in rounds:
        for rows in commits:
            for texts in (False, True):
                if selected := [row for row in rows if (row[0] == TEXT_SERIES) is texts]:
                    store_points(selected, texts)
        with connect() as storage:
            if merged:
                schedule.merge_commits(storage, force=True)
            if merged == "everything":
                schedule.merge_days(storage, force=True)
    with connect() as storage:
        storage.execute("UPDATE metrics_young SET at = at - interval '1 hour'")


def assign_series(series: list[int]) -> None:
    """Assign these series to another device, `e`."""
    Series.objects.filter(pk__in=series).update(device=Device.objects.create(device_id="e"))


def delete_by_id(device_id: str) -> str:
    """Delete a device; return the id of the deletion."""
    return delete_device.delete_device(device_id, Caller.internal("test")).deletion_id


def read_deletion(device_id: str) -> tuple[str, int]:
    """Return status and deleted points of the newest deletion of a device."""
    deletion = Deletion.objects.filter(device_id=device_id).first()
    return ("none", 0) if deletion is None else (deletion.status, deletion.points)


def run_task(task: str) -> int:
    """Run a Celery task in this process."""
    result: int = getattr(tasks, task)()
    return result


def read_everything(now: int) -> tuple[Points, dict[str, tuple[int, Any]]]:
    """Return every point, and the latest point of every metric."""
    points = points_by_key(read_stored_parts(SERIES, now - ALL_TIMES, now + ALL_TIMES))
    moment = datetime.fromtimestamp(now / 1_000_000, UTC)
    newest = latest.read_latest_points(None, None, timedelta(days=90), now=moment).points
    return points, {
        latest_point.metric_name: (to_microseconds(latest_point.timestamp), latest_point.value)
        for latest_point in newest
    }
