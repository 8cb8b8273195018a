"""`make bench-disk`: bytes per point on disk, from its commit to the final block of its day, and merge throughput.

Fills in thirty days of 1,000 series at 10 seconds. Then 100,000 series send a point every second through the writer and
the merges of the site, on separate servers: one merge of commits per second of data, one merge of day blocks per thirty
seconds. Runs as fast as possible, or in real time with `--paced`.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import django
import numpy as np
from django.core.management import call_command

from benchmarks.fill_storage import SECOND, Fleet, fill
from benchmarks.report import add_row, log_progress, measure_calibration, print_table
from benchmarks.workload import KINDS
from metrics.storage.connection import Connection, connect
from metrics.storage.format.codec import Ints, Kind
from metrics.storage.merge import schedule
from metrics.storage.write.group_commit import JournalEntry, stop_writer, writer
from metrics.storage.write.incoming import IncomingPoints
from telemetry_site.embedded.servers import EmbeddedServers

DAY = 86_400  # seconds
DAY_BATCH = 5  # days that are filled in together, to limit memory
COMMIT_SIZE = 2_000  # points per commit
DAY_MERGE_INTERVAL = 30  # seconds
TABLES = ("metrics_young", "metrics_block", "metrics_rollup", "metrics_latest", "metrics_count", "metrics_journal")


class WorkCost:
    """Points, seconds and bytes of write-ahead log of one kind of work."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.points, self.seconds, self.wal_bytes = 0, 0.0, 0

    def measure(self, work: Callable[[], int]) -> int:
        before, began = _read_wal_position(self.connection), time.perf_counter()
        points = work()
        self.seconds += time.perf_counter() - began
        self.wal_bytes += _read_wal_position(self.connection) - before
        self.points += points
        return points

    def report(self, name: str, total: int) -> None:
        rate = f"{self.points / self.seconds:,.0f} points/s" if self.points else "no work"
        add_row(name, rate, f"{self.wal_bytes / total:.2f} bytes of WAL per stored point")


def _read_wal_position(connection: Connection) -> int:
    row = connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
    return int(row[0]) if row else 0


def _read_table_sizes(connection: Connection) -> dict[str, int]:
    """Return the bytes of each table with its TOAST and indexes."""
    sizes = "SELECT relname, pg_total_relation_size(oid) FROM pg_class WHERE relname = ANY(%s) AND relkind = 'r'"
    return {name: int(size) for name, size in connection.execute(sizes, (list(TABLES),))}


def fill_finished_days(environment: dict[str, str], days: int) -> None:
    """Fill in finished days and report their size."""
    midnight = int(time.time()) // DAY * DAY
    with connect() as connection:
        before = sum(_read_table_sizes(connection).values())
        points, seconds = 0, 0.0
        for first in range(0, days, DAY_BATCH):
            ticks = min(DAY_BATCH, days - first) * DAY // 10
            end = midnight - (days - first) * DAY + ticks * 10
            fleet = Fleet("day", 100, ticks, 10, end, seed=first)
            seconds += fill(environment, fleet)
            points += fleet.points
        size = sum(_read_table_sizes(connection).values()) - before
        levels = connection.execute("SELECT sum(length(payload)), count(*) FROM metrics_block").fetchone()
    assert levels is not None
    add_row(
        f"{days} finished days, {points:,} points", f"{size / points:.3f} bytes per point", f"filled in {seconds:.0f} s"
    )
    rest = (size - levels[0]) / points
    add_row("payload; row, TOAST and index", f"{levels[0] / points:.3f}; {rest:.3f}", f"{levels[1]:,} rows")


class SecondlyWorkload:
    """Series that send a point every second, from commits to the merge of the day."""

    def __init__(self, connection: Connection, folder: Path, ids: Ints, fleet: Fleet) -> None:
        self.connection, self.folder, self.ids, self.fleet = connection, folder, ids, fleet
        self.commits, self.commit_merges, self.day_merges, self.final_merge = (WorkCost(connection) for _ in range(4))
        self.max_growth = 0

    def run(self, seconds: int, paced: bool) -> None:
        before, files = _read_table_sizes(self.connection), _read_folder_size(self.folder)
        began = time.monotonic()
        for second in range(seconds):
            if second % 60 == 0:
                values = self.fleet.values([self.fleet.metric(kind) for kind in KINDS] * self.fleet.devices, second)
                log_progress(f"{second} s of {seconds} in {time.monotonic() - began:.0f} s")
            at = (self.fleet.start + second) * SECOND
            self.commits.measure(partial(self._commit, at, values[:, second % 60].copy()))
            if paced:
                time.sleep(max(0.0, began + second + 1 - time.monotonic()))
            else:  # The grace period of stream followers passes as fast as the simulated time.
                schedule.FOLLOWER_GRACE = 60.0 * (time.monotonic() - began) / (second + 1)
            self.commit_merges.measure(lambda: schedule.merge_commits(self.connection))
            if second % DAY_MERGE_INTERVAL == DAY_MERGE_INTERVAL - 1:
                self.day_merges.measure(lambda: schedule.merge_days(self.connection, budget=float("inf")))
                self.max_growth = max(self.max_growth, _read_folder_size(self.folder) - files)
        after = _read_table_sizes(self.connection)
        self._report(seconds, {name.removeprefix("metrics_"): after[name] - before[name] for name in TABLES})

    def _commit(self, at: int, values: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> int:
        for low in range(0, len(self.ids), COMMIT_SIZE):
            batch = self.ids[low : low + COMMIT_SIZE]
            arrivals = IncomingPoints(batch, np.full(len(batch), at), values[low : low + COMMIT_SIZE])
            writer().submit([arrivals], JournalEntry("bench", at / SECOND, len(batch)))
        return len(self.ids)

    def _report(self, seconds: int, growth: dict[str, int]) -> None:
        points, size = self.commits.points, sum(growth.values())
        per_table = ", ".join(f"{name} {grown / points:.2f}" for name, grown in growth.items() if grown)
        add_row(f"{seconds} s at {len(self.ids):,} points/s: tables", f"{size / points:.2f} bytes per point", per_table)
        add_row("maximum growth of PostgreSQL's folder", f"{self.max_growth / 1e6:,.0f} MB", f"{points:,} points")
        self.commits.report(f"commits of {COMMIT_SIZE:,}", points)
        self.commit_merges.report("merge of unmerged blocks", points)
        self.day_merges.report("merge of day blocks", points)
        self.final_merge.measure(lambda: schedule.merge_days(self.connection, force=True))
        self.final_merge.report("final merge of the day", points)
        wal = (
            sum(cost.wal_bytes for cost in (self.commits, self.commit_merges, self.day_merges, self.final_merge))
            / points
        )
        add_row("bytes written, all stages", f"{wal + size / points:.1f} bytes per point", f"{wal:.1f} of them WAL")


def _read_folder_size(folder: Path) -> int:
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file())


def run(folder: Path, days: int, seconds: int, devices: int, paced: bool) -> None:
    environment = {"TELEMETRY_DATA_DIR": str(folder)}
    os.environ.update(environment | {"DJANGO_SETTINGS_MODULE": "telemetry_site.settings"})
    with EmbeddedServers(folder) as servers:
        django.setup()
        call_command("migrate", verbosity=0)
        from metrics.storage.series_registry import current_registry

        if days:
            fill_finished_days(environment, days)
        fleet = Fleet("hour", devices, 60, 1, int(time.time()) // DAY * DAY + 60)
        metrics = [fleet.metric(kind) for kind in KINDS]
        for number in range(devices):
            current_registry().create_missing((fleet.device(number), metric, Kind.NUMERIC) for metric in metrics)
        with connect(statement_timeout="10min") as connection:
            names = "SELECT s.id FROM metrics_series s JOIN metrics_device d ON d.id = s.device_id"
            rows = connection.execute(f"{names} WHERE d.device_id LIKE 'hour%%' ORDER BY d.device_id, metric_name")
            ids = np.array([number for (number,) in rows], np.int64)
            SecondlyWorkload(connection, servers.data_folder.postgres_dir, ids, fleet).run(seconds, paced)
        stop_writer()


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.disk", description=__doc__)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--seconds", type=int, default=3600)
    parser.add_argument("--devices", type=int, default=10_000, help="devices with ten series each, a point per second")
    parser.add_argument("--paced", action="store_true", help="run in real time")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="telemetry-disk-"))
    folder.chmod(0o755)
    print(f"calibration {measure_calibration():.1f} ms (about 20 on an idle fast core)", file=sys.stderr)
    try:
        run(folder, arguments.days, arguments.seconds, arguments.devices, arguments.paced)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print_table("measurement", "result", "details")


if __name__ == "__main__":
    main()
