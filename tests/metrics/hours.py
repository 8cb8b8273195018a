"""Hours in seconds: a fleet writes, a worker merges as the schedule says, and the clock is moved by hand.

All ages are PostgreSQL's `now()`; a function of that name in a schema of its own, before `pg_catalog` in the search
path, is the clock's hand. Autovacuum goes by real time, so a VACUUM at every full hour stands in for it.
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
from metrics.storage.write.writer import IncomingPoints, JournalEntry, writer
from tests.metrics.steps import migrate
from tests.metrics.stored import readings

SERIES = 50
STEP = 10  # seconds between the points of a series
COMMIT = 20  # seconds between commits
HOUR = 3600
CACHE = 4 * 2**20  # bytes
_TABLES = ("young", "block", "latest", "head", "merged")


class Clock:
    """PostgreSQL's `now()` in a database of a test's own."""

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
class Sample:
    """How much there is at a full hour."""

    young: int
    waiting: int  # of them: not merged yet
    blocks: int
    unsettled_days: int  # that are over
    journal: int
    bytes: dict[str, int]  # of each table with its TOAST and indexes
    cached: int  # bytes of decoded blocks
    memory: int  # resident bytes of this process


def sample(storage: Connection, now: datetime) -> Sample:
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
    return Sample(*row, sizes, block_cache.decoded_blocks._size, psutil.Process().memory_info().rss)


def fleet() -> list[int]:
    device = Device.objects.create(device_id="d")
    made = Series.objects.bulk_create(
        Series(device=device, metric_name=f"m{number}", kind=Kind.NUMERIC) for number in range(SERIES)
    )
    return [one.pk for one in made]


def commit(series: list[int], times: list[int]) -> None:
    """One commit: a point of every series at each of these times (µs)."""
    ids, moments = np.repeat(series, len(times)), np.tile(np.array(times, np.int64), len(series))
    writer().submit([IncomingPoints(ids, moments, value(ids, moments))], JournalEntry("fleet", time.time(), len(ids)))


def value(series: np.ndarray, times: np.ndarray) -> np.ndarray:
    return np.round(np.sin(times / 3.6e9 + series) * 100, 1)


def wrong(series: list[int], first: int, last: int, which: Iterable[int] = range(SERIES)) -> int:
    """How many points of these metrics and times (µs, `last` left out) are not what was written."""
    expected = np.arange(first, last, STEP * 1_000_000)
    differences = 0
    for number in which:
        found = readings("d", f"m{number}", to_datetime(first), to_datetime(last))
        if found.times.tolist() != expected.tolist():
            differences += len(set(found.times.tolist()) ^ set(expected.tolist()))
        else:
            differences += int((np.asarray(found.values) != value(np.int64(series[number]), expected)).sum())
    return differences


def due(passed: int) -> list[Callable[[], object]]:
    """The tasks of the storage whose time is come after so many seconds, by the site's schedule."""
    entries = settings.CELERY_BEAT_SCHEDULE.values()
    names = [
        entry["task"].rpartition(".")[2]
        for entry in entries
        if entry["task"].startswith("metrics.tasks.") and passed % max(entry["schedule"], COMMIT) < COMMIT
    ]
    return [getattr(tasks, name) for name in names]


def pass_hours(hours: int) -> tuple[list[Sample], int]:
    """Live through these hours around a midnight; a sample of each, and how many points are wrong in the end."""
    migrate()
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    clock = Clock(midnight - timedelta(hours=hours / 2))
    first = to_microseconds(clock.now)
    block_cache.decoded_blocks._limit = CACHE  # so small that it is full after an hour or two
    series, samples, differences = fleet(), [], 0
    with connect() as storage:
        for passed in range(COMMIT, hours * HOUR + 1, COMMIT):
            now = to_microseconds(clock.now)
            commit(series, [now + second * 1_000_000 for second in range(0, COMMIT, STEP)])
            clock.move(COMMIT)
            for task in due(passed):
                task()
            if passed % 600 == 0:
                differences += wrong(series, max(first, now - HOUR * 1_000_000), to_microseconds(clock.now), [0])
                assert len(latest.read_latest_points(["d"], None, now=clock.now).points) == SERIES
            if passed % HOUR == 0:
                storage.execute(f"VACUUM {', '.join('metrics_' + name for name in _TABLES)}")
                samples.append(sample(storage, clock.now))
    return samples, differences + wrong(series, first, to_microseconds(clock.now))
