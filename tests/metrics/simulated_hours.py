"""Simulation of hours in seconds: devices send, workers merge by the schedule, and the database clock is set by hand.

All ages are measured by PostgreSQL's `now()`; a function of that name in a separate schema, before `pg_catalog` in the
search path, returns the simulated time. Autovacuum follows real time, so a VACUUM at every full hour replaces it.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import psutil
from django.conf import settings
from django.db import connection

from metrics import tasks
from metrics.models import Device, Series
from metrics.query import latest
from metrics.storage.connection import Connection, connect
from metrics.storage.format.codec import Kind
from metrics.storage.read import block_cache
from metrics.storage.units import DAY, to_datetime, to_microseconds
from metrics.storage.write.group_commit import JournalEntry, writer
from metrics.storage.write.incoming import IncomingPoints
from tests.metrics.process_steps import migrate
from tests.metrics.stored_points import read_stored_values

SERIES_COUNT = 50
POINT_INTERVAL = 10  # seconds between the points of a series
COMMIT_INTERVAL = 20  # seconds between commits
HOUR = 3600
CACHE_BYTES = 4 * 2**20  # bytes
_TABLES = ("young", "block", "latest", "head", "merged")


class DatabaseClock:
    """Control of PostgreSQL's `now()` in a separate database."""

    def __init__(self, start: datetime) -> None:
        self._connection = connect()
        for statement in (
            "CREATE SCHEMA clock",
            "CREATE TABLE clock.hand AS SELECT NULL::timestamptz AS at",
            "CREATE FUNCTION clock.now() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT at FROM clock.hand'",
            *(f"ALTER TABLE metrics_{name} ALTER at SET DEFAULT clock.now()" for name in ("young", "journal")),
            f"ALTER DATABASE {connection.settings_dict['NAME']} SET search_path = clock, pg_catalog, public",
        ):
            self._connection.execute(statement)
        self.now = start
        self.move(0)

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self._connection.execute("UPDATE clock.hand SET at = %s", (self.now,))


@dataclass(frozen=True)
class StorageSample:
    """Sizes of the storage at a full hour."""

    commits: int
    unmerged_commits: int
    blocks: int
    unfinished_days: int  # past days without day blocks
    journal: int
    bytes: dict[str, int]  # of each table with its TOAST and indexes
    cached: int  # bytes of decoded blocks
    memory: int  # resident bytes of this process


def take_sample(storage: Connection, now: datetime) -> StorageSample:
    row = storage.execute(
        "SELECT (SELECT count(*) FROM metrics_young), (SELECT count(*) FROM metrics_young y, metrics_merged m"
        " WHERE y.seq > m.seq), (SELECT count(*) FROM metrics_block), (SELECT count(DISTINCT day) FROM metrics_block"
        " WHERE level < 100 AND day < %s), (SELECT count(*) FROM metrics_journal)",
        (to_microseconds(now) // DAY,),
    ).fetchone()
    assert row is not None
    sizes = {
        name: storage.execute("SELECT pg_total_relation_size(%s)", (f"metrics_{name}",)).fetchone()[0]  # type: ignore[index]
        for name in _TABLES
    }
    return StorageSample(*row, sizes, block_cache.decoded_blocks._size, psutil.Process().memory_info().rss)


def create_fleet() -> list[int]:
    """Create a device with its series."""
    device = Device.objects.create(device_id="d")
    series = Series.objects.bulk_create(
        Series(device=device, metric_name=f"m{number}", kind=Kind.NUMERIC) for number in range(SERIES_COUNT)
    )
    return [row.pk for row in series]


def commit_points(series: list[int], times: list[int]) -> None:
    """Commit a point of every series at each of these times (µs)."""
    ids, moments = np.repeat(series, len(times)), np.tile(np.array(times, np.int64), len(series))
    writer().submit(
        [IncomingPoints(ids, moments, expected_values(ids, moments))], JournalEntry("fleet", time.time(), len(ids))
    )


def expected_values(series: np.ndarray, times: np.ndarray) -> np.ndarray:
    return np.round(np.sin(times / 3.6e9 + series) * 100, 1)


def count_wrong_points(series: list[int], first: int, last: int, metrics: Iterable[int] = range(SERIES_COUNT)) -> int:
    """Count the points of these metrics from `first` to before `last` (µs) that differ from what was written."""
    expected = np.arange(first, last, POINT_INTERVAL * 1_000_000)
    differences = 0
    for number in metrics:
        points = read_stored_values("d", f"m{number}", to_datetime(first), to_datetime(last))
        if points.times.tolist() != expected.tolist():
            differences += len(set(points.times.tolist()) ^ set(expected.tolist()))
        else:
            differences += int((np.asarray(points.values) != expected_values(np.int64(series[number]), expected)).sum())
    return differences


def due_tasks(elapsed: int) -> list[Callable[[], object]]:
    """Return the storage tasks that are due after so many seconds by the schedule of the site."""
    entries = settings.CELERY_BEAT_SCHEDULE.values()
    names = [
        entry["task"].rpartition(".")[2]
        for entry in entries
        if entry["task"].startswith("metrics.tasks.")
        and elapsed % max(entry["schedule"], COMMIT_INTERVAL) < COMMIT_INTERVAL
    ]
    return [getattr(tasks, name) for name in names]


def simulate_hours(hours: int) -> tuple[list[StorageSample], int]:
    """Simulate hours around a midnight; return an hourly sample and the number of wrong points at the end."""
    migrate()
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    clock = DatabaseClock(midnight - timedelta(hours=hours / 2))
    first = to_microseconds(clock.now)
    block_cache.decoded_blocks._limit = CACHE_BYTES  # small enough to be full after an hour or two
    series, samples, differences = create_fleet(), [], 0
    with connect() as storage:
        for elapsed in range(COMMIT_INTERVAL, hours * HOUR + 1, COMMIT_INTERVAL):
            now = to_microseconds(clock.now)
            commit_points(series, [now + second * 1_000_000 for second in range(0, COMMIT_INTERVAL, POINT_INTERVAL)])
            clock.move(COMMIT_INTERVAL)
            for task in due_tasks(elapsed):
                task()
            if elapsed % 600 == 0:
                differences += count_wrong_points(
                    series, max(first, now - HOUR * 1_000_000), to_microseconds(clock.now), [0]
                )
                assert len(latest.read_latest_points(["d"], None, now=clock.now).points) == SERIES_COUNT
            if elapsed % HOUR == 0:
                storage.execute(f"VACUUM {', '.join('metrics_' + name for name in _TABLES)}")
                samples.append(take_sample(storage, clock.now))
    return samples, differences + count_wrong_points(series, first, to_microseconds(clock.now))
