"""`make bench-disk`: what a point costs on disk, from its commit to the row of a finished day, and how fast merging is.

Thirty finished days of 1,000 series every 10 seconds are filled in; then 100,000 series send a point every second
through the site's own writer and merges, on servers of their own: a merge after every second of theirs, a merge of
units after every thirty. They go as fast as that goes, or with `--paced` at the pace of the clock.
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

from benchmarks.figures import calibration, note, say, table
from benchmarks.filling import SECOND, Fleet, fill
from benchmarks.workload import KINDS
from metrics.storage.connection import Connection, connect
from metrics.storage.format.codec import Ints, Kind
from metrics.storage.merge import schedule
from metrics.storage.write.writer import IncomingPoints, JournalEntry, stop_writer, writer
from telemetry_site.embedded.servers import EmbeddedServers

DAY = 86_400  # seconds
AT_ONCE = 5  # days that are filled in together, for the memory that their making takes
COMMIT = 2_000  # points of a commit
UNITS_EVERY = 30  # seconds
TABLES = ("metrics_young", "metrics_block", "metrics_rollup", "metrics_latest", "metrics_count", "metrics_journal")


class Cost:
    """Points, seconds and bytes of write-ahead log that a kind of work took."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.points, self.seconds, self.log = 0, 0.0, 0

    def of(self, work: Callable[[], int]) -> int:
        before, began = _log_position(self.connection), time.perf_counter()
        points = work()
        self.seconds += time.perf_counter() - began
        self.log += _log_position(self.connection) - before
        self.points += points
        return points

    def say(self, what: str, total: int) -> None:
        rate = f"{self.points / self.seconds:,.0f} points/s" if self.points else "nothing to do"
        say(what, rate, f"{self.log / total:.2f} bytes of log a point stored")


def _log_position(connection: Connection) -> int:
    row = connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
    return int(row[0]) if row else 0


def _tables(connection: Connection) -> dict[str, int]:
    """Bytes of each table with its TOAST and indexes."""
    sizes = "SELECT relname, pg_total_relation_size(oid) FROM pg_class WHERE relname = ANY(%s) AND relkind = 'r'"
    return {name: int(size) for name, size in connection.execute(sizes, (list(TABLES),))}


def settled(environment: dict[str, str], days: int) -> None:
    """Finished days."""
    midnight = int(time.time()) // DAY * DAY
    with connect() as connection:
        before = sum(_tables(connection).values())
        points, seconds = 0, 0.0
        for first in range(0, days, AT_ONCE):
            ticks = min(AT_ONCE, days - first) * DAY // 10
            end = midnight - (days - first) * DAY + ticks * 10
            fleet = Fleet("day", 100, ticks, 10, end, seed=first)
            seconds += fill(environment, fleet)
            points += fleet.points
        size = sum(_tables(connection).values()) - before
        levels = connection.execute("SELECT sum(length(payload)), count(*) FROM metrics_block").fetchone()
    assert levels is not None
    say(f"{days} finished days, {points:,} points", f"{size / points:.3f} bytes a point", f"made in {seconds:.0f} s")
    rest = (size - levels[0]) / points
    say("of it payload; row, TOAST and index", f"{levels[0] / points:.3f}; {rest:.3f}", f"{levels[1]:,} rows")


class Hour:
    """Series that send a point every second, from their commit to the end of the day."""

    def __init__(self, connection: Connection, folder: Path, ids: Ints, fleet: Fleet) -> None:
        self.connection, self.folder, self.ids, self.fleet = connection, folder, ids, fleet
        self.commits, self.young, self.units, self.day = (Cost(connection) for _ in range(4))
        self.largest = 0

    def run(self, seconds: int, paced: bool) -> None:
        before, files = _tables(self.connection), _folder(self.folder)
        began = time.monotonic()
        for second in range(seconds):
            if second % 60 == 0:
                values = self.fleet.values([self.fleet.metric(kind) for kind in KINDS] * self.fleet.devices, second)
                note(f"{second} s of {seconds} in {time.monotonic() - began:.0f} s")
            at = (self.fleet.start + second) * SECOND
            self.commits.of(partial(self._commit, at, values[:, second % 60].copy()))
            if paced:
                time.sleep(max(0.0, began + second + 1 - time.monotonic()))
            else:  # Followers' time to read a commit passes as fast as everything else here.
                schedule.FOLLOWER_GRACE = 60.0 * (time.monotonic() - began) / (second + 1)
            self.young.of(lambda: schedule.merge_commits(self.connection))
            if second % UNITS_EVERY == UNITS_EVERY - 1:
                self.units.of(lambda: schedule.merge_days(self.connection, budget=float("inf")))
                self.largest = max(self.largest, _folder(self.folder) - files)
        after = _tables(self.connection)
        self._say(seconds, {name.removeprefix("metrics_"): after[name] - before[name] for name in TABLES})

    def _commit(self, at: int, values: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> int:
        for low in range(0, len(self.ids), COMMIT):
            some = self.ids[low : low + COMMIT]
            arrivals = IncomingPoints(some, np.full(len(some), at), values[low : low + COMMIT])
            writer().submit([arrivals], JournalEntry("bench", at / SECOND, len(some)))
        return len(self.ids)

    def _say(self, seconds: int, grown_by: dict[str, int]) -> None:
        points, size = self.commits.points, sum(grown_by.values())
        shares = ", ".join(f"{name} {grown / points:.2f}" for name, grown in grown_by.items() if grown)
        say(f"{seconds} s at {len(self.ids):,} points/s: tables", f"{size / points:.2f} bytes a point", shares)
        say(
            "… PostgreSQL's whole folder, at its largest", f"grew by {self.largest / 1e6:,.0f} MB", f"{points:,} points"
        )
        self.commits.say(f"commits of {COMMIT:,}", points)
        self.young.say("merge of young blocks", points)
        self.units.say("merges of units", points)
        self.day.of(lambda: schedule.merge_days(self.connection, force=True))
        self.day.say("merge of the day", points)
        log = sum(one.log for one in (self.commits, self.young, self.units, self.day)) / points
        say("state written, all levels together", f"{log + size / points:.1f} bytes a point", f"{log:.1f} of them log")


def _folder(folder: Path) -> int:
    return sum(one.stat().st_blocks * 512 for one in folder.rglob("*") if one.is_file())


def run(folder: Path, days: int, seconds: int, devices: int, paced: bool) -> None:
    environment = {"TELEMETRY_DATA_DIR": str(folder)}
    os.environ.update(environment | {"DJANGO_SETTINGS_MODULE": "telemetry_site.settings"})
    with EmbeddedServers(folder) as servers:
        django.setup()
        call_command("migrate", verbosity=0)
        from metrics.storage.series_registry import current_registry

        if days:
            settled(environment, days)
        fleet = Fleet("hour", devices, 60, 1, int(time.time()) // DAY * DAY + 60)
        metrics = [fleet.metric(kind) for kind in KINDS]
        for number in range(devices):
            current_registry().create_missing((fleet.device(number), metric, Kind.NUMERIC) for metric in metrics)
        with connect(statement_timeout="10min") as connection:
            names = "SELECT s.id FROM metrics_series s JOIN metrics_device d ON d.id = s.device_id"
            found = connection.execute(f"{names} WHERE d.device_id LIKE 'hour%%' ORDER BY d.device_id, metric_name")
            ids = np.array([number for (number,) in found], np.int64)
            Hour(connection, servers.data_folder.postgres_dir, ids, fleet).run(seconds, paced)
        stop_writer()


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.disk", description=__doc__)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--seconds", type=int, default=3600)
    parser.add_argument("--devices", type=int, default=10_000, help="of ten series, a point of each every second")
    parser.add_argument("--paced", action="store_true", help="a second takes a second")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="telemetry-disk-"))
    folder.chmod(0o755)
    print(f"calibration {calibration():.1f} ms (a quiet fast core: about 20)", file=sys.stderr)
    try:
        run(folder, given.days, given.seconds, given.devices, given.paced)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    table("what", "figure", "")


if __name__ == "__main__":
    main()
