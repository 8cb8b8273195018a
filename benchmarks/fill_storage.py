"""Fill the storage of a site directly with merged blocks, without a request per point.

Values are generated from a seed, bucket by bucket: memory depends on the number of processes, not of points.
"""

import multiprocessing
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import django
import numpy as np
import psycopg

from benchmarks.report import log_progress
from benchmarks.workload import KINDS, Floats, series_values
from metrics.storage.format.codec import Columns, Kind
from metrics.storage.format.layout import DAY_LEVEL, bucket_of, day_of, newest_points
from metrics.storage.merge import rollups
from metrics.storage.merge.insert_blocks import MergeRun, insert_day_blocks
from metrics.storage.merge.point_counts import CountChange
from metrics.storage.merge.rollups import BucketDay
from metrics.storage.read import latest
from telemetry_site.embedded.paths import DataFolder

SHARD = 0
SEQ = 1  # all points are written as one commit
SECOND = 1_000_000  # µs
DEVICE_BATCH = 100  # devices that are registered together

_SERIES = "SELECT id, metric_name FROM metrics_series WHERE metric_name = ANY(%s) ORDER BY id"


@dataclass(frozen=True, slots=True)
class Fleet:
    """`devices` that send `metrics`, with a point of each every `step` seconds, `ticks` points up to `end`."""

    name: str  # device IDs are `name` and five digits, metrics `name`, `_` and the kind
    devices: int
    ticks: int
    step: int
    end: int
    metrics: Sequence[str] = KINDS
    seed: int = 1

    @property
    def start(self) -> int:
        return self.end - self.step * self.ticks

    @property
    def points(self) -> int:
        return self.devices * len(self.metrics) * self.ticks

    def device(self, number: int) -> str:
        return f"{self.name}{number:05d}"

    def metric(self, kind: str) -> str:
        return f"{self.name}_{kind}"

    def times(self) -> "np.ndarray[Any, np.dtype[np.int64]]":
        return (self.start + self.step * np.arange(self.ticks, dtype=np.int64)) * SECOND

    def values(self, metrics: Sequence[str], seed: int) -> Floats:
        """Return the values of series as float64[series, ticks]."""
        values = np.empty((len(metrics), self.ticks))
        for number, kind in enumerate(KINDS):
            rows = [row for row, metric in enumerate(metrics) if metric == self.metric(kind)]
            if rows:
                rng = np.random.default_rng([self.seed, seed, number])
                values[rows] = series_values(kind, rng, len(rows), self.ticks)
        return values


def fill(environment: dict[str, str], fleet: Fleet, workers: int = 2) -> float:
    """Write the devices, series and points of a fleet to the site of this environment. Returns the seconds it took."""
    started, logged_at, done = time.monotonic(), 0.0, 0
    database = DataFolder(Path(environment["TELEMETRY_DATA_DIR"])).database
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        jobs = pool.submit(_create_series, environment, fleet).result()
        for points in pool.map(_fill_bucket, *zip(*((database, fleet, *job) for job in jobs), strict=True)):
            done += points
            if time.monotonic() - logged_at < 10:
                continue
            logged_at = time.monotonic()
            log_progress(f"{fleet.name}: {done:,} of {fleet.points:,} points in {logged_at - started:.0f} s")
    with psycopg.connect(**database, autocommit=True) as connection:
        for name in ("metrics_head", "metrics_merged"):
            connection.execute(f"UPDATE {name} SET seq = greatest(seq, %s) WHERE shard = %s", (SEQ, SHARD))
        connection.execute("VACUUM ANALYZE")
    return time.monotonic() - started


def _create_series(environment: dict[str, str], fleet: Fleet) -> list[tuple[int, list[int], list[str]]]:
    """Register the series as the site does, and return them by bucket as (bucket, ids, metrics)."""
    os.environ.update(environment | {"DJANGO_SETTINGS_MODULE": "telemetry_site.settings"})
    django.setup()
    from metrics.storage.connection import read_connection
    from metrics.storage.series_registry import current_registry

    metrics = [fleet.metric(kind) for kind in fleet.metrics]
    for first in range(0, fleet.devices, DEVICE_BATCH):
        batch = range(first, min(first + DEVICE_BATCH, fleet.devices))
        current_registry().create_missing(
            (fleet.device(number), metric, Kind.NUMERIC) for number in batch for metric in metrics
        )
    jobs: dict[int, tuple[list[int], list[str]]] = {}
    with read_connection() as connection:
        for number, metric in connection.execute(_SERIES, (metrics,)):
            ids, names = jobs.setdefault(bucket_of(number), ([], []))
            ids.append(number)
            names.append(metric)
    return [(bucket, *job) for bucket, job in jobs.items()]


def _fill_bucket(database: dict[str, str], fleet: Fleet, bucket: int, ids: list[int], metrics: list[str]) -> int:
    values, run = fleet.values(metrics, bucket), MergeRun(SHARD, DAY_LEVEL, SEQ, SEQ)
    with psycopg.connect(**database, autocommit=True) as connection, connection.transaction():
        change = CountChange(connection, SHARD)
        for columns in split_by_day(ids, fleet.times(), values):
            insert_day_blocks(connection, columns, run, {}, change)
            change.add(columns)
            bucket_day = BucketDay(SHARD, bucket, day_of(int(columns.times[0])))
            rollups.write_rollups(connection, bucket_day, columns, {}, time.time(), rollups.choose_resolutions(columns))
        latest.update_latest(connection, SHARD, newest_points(columns))
        change.apply()
    return values.size


def split_by_day(ids: Iterable[int], times: "np.ndarray[Any, np.dtype[np.int64]]", values: Floats) -> Iterable[Columns]:
    """Yield the columns of each day; all series have the same times."""
    series_ids = np.array(list(ids), np.int64)
    edges = np.arange(day_of(int(times[0])), day_of(int(times[-1])) + 2) * 86_400 * SECOND
    bounds = np.searchsorted(times, edges).tolist()
    for low, high in zip(bounds[:-1], bounds[1:], strict=True):
        offsets = np.arange(len(series_ids) + 1, dtype=np.int64) * (high - low)
        yield Columns(series_ids, offsets, np.tile(times[low:high], len(series_ids)), values[:, low:high].ravel())
