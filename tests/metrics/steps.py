"""What the fault tests do in processes of their own: fill a storage, run a task, read everything back."""

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
from tests.metrics.stored import parts
from tests.metrics.test_storage import DAY, store, stored

NUMBERS = [1, 2, 256, 300]  # series of two buckets
TEXT = 301
SERIES = [*NUMBERS, TEXT]
EVER = 200 * DAY

Row = tuple[int, int, float, bytes]
Points = dict[tuple[int, int], tuple[Any, bytes]]


def migrate() -> None:
    """The newest tables."""
    call_command("migrate", verbosity=0)


def empty() -> None:
    """Nothing stored, and a device with a metric for each series."""
    with connection.cursor() as cursor:
        cursor.execute(
            "TRUNCATE metrics_young, metrics_block, metrics_latest, metrics_journal, metrics_head, metrics_merged,"
            " metrics_count, metrics_ingestedbatch, metrics_device, metrics_deletion CASCADE"
        )
    create_initial_rows("default")
    device = Device.objects.create(device_id="d")
    Series.objects.bulk_create(
        Series(pk=number, device=device, metric_name=f"m{number}", kind=Kind.STRING if number == TEXT else Kind.NUMERIC)
        for number in SERIES
    )


def fill(rounds: list[tuple[list[list[Row]], str]]) -> None:
    """Commits, and after each round of them a merge: `young`, `everything` or none."""
    for commits, how in rounds:
        for rows in commits:
            for texts in (False, True):
                if some := [row for row in rows if (row[0] == TEXT) is texts]:
                    store(some, texts)
        with connect() as storage:
            if how:
                schedule.merge_commits(storage, force=True)
            if how == "everything":
                schedule.merge_days(storage, force=True)
    with connect() as storage:
        storage.execute("UPDATE metrics_young SET at = at - interval '1 hour'")


def part(others: list[int]) -> None:
    """Some of the series are those of another device, `e`."""
    Series.objects.filter(pk__in=others).update(device=Device.objects.create(device_id="e"))


def delete(device_id: str) -> str:
    """The verb; returns the id of the deletion."""
    return delete_device.delete_device(device_id, Caller.internal("test")).deletion_id


def deletion_of(device_id: str) -> tuple[str, int]:
    """How far the newest one is: its status, and how many points went."""
    found = Deletion.objects.filter(device_id=device_id).first()
    return ("none", 0) if found is None else (found.status, found.points)


def work(task: str) -> int:
    """What Celery runs."""
    found: int = getattr(tasks, task)()
    return found


def everything(now: int) -> tuple[Points, dict[str, tuple[int, Any]]]:
    """Every point, and what `latest` says of every metric."""
    points = stored(parts(SERIES, now - EVER, now + EVER))
    day = datetime.fromtimestamp(now / 1_000_000, UTC)
    newest = latest.read_latest_points(None, None, timedelta(days=90), now=day).points
    return points, {one.metric_name: (to_microseconds(one.timestamp), one.value) for one in newest}
