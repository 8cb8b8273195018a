"""A backlog of thousands of commits that workers merge while devices write and users read."""

import random
import threading
from dataclasses import dataclass, field

import numpy as np

from metrics import tasks
from metrics.query import latest
from metrics.storage.connection import Connection, connect
from metrics.storage.format.codec import encode
from metrics.storage.merge.schedule import MIN_COMMITS
from metrics.storage.units import to_datetime, to_microseconds
from metrics.storage.write.incoming import IncomingPoints, build_block
from tests.metrics.process_steps import migrate
from tests.metrics.simulated_hours import (
    HOUR,
    POINT_INTERVAL,
    SERIES_COUNT,
    commit_points,
    count_wrong_points,
    create_fleet,
    expected_values,
)

SECOND = 1_000_000
START = 20_500 * 86_400 * SECOND


def insert_commits(storage: Connection, series: list[int], commits: int) -> None:
    """Insert commits like the writer's without waiting for each; an hour old, so that none is kept for followers."""
    ids = np.array(series)
    rows = []
    for number in range(commits):
        times = np.full(SERIES_COUNT, START + number * POINT_INTERVAL * SECOND)
        payload = encode(build_block([IncomingPoints(ids, times, expected_values(ids, times))]))
        rows.append((number + 1, SERIES_COUNT, int(times[0]), int(times[0]), payload))
    with storage.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO metrics_young (shard, seq, at, points, time_from, time_to, payload)"
            " VALUES (0, %s, now() - interval '1 hour', %s, %s, %s, %s)",
            rows,
        )
    storage.execute("UPDATE metrics_head SET seq = %s", (commits,))


@dataclass
class ConcurrentTraffic:
    """Continuous writes, and reads of acknowledged points, until it is stopped."""

    series: list[int]
    written: int  # acknowledged commits
    reads: int = 0
    writes: int = 0
    wrong_points: int = 0
    start_barrier: threading.Barrier = field(default_factory=lambda: threading.Barrier(3))
    stopped: threading.Event = field(default_factory=threading.Event)

    def write(self) -> None:
        self.start_barrier.wait(60)
        while not self.stopped.is_set():
            commit_points(self.series, [START + self.written * POINT_INTERVAL * SECOND])
            self.written += 1
            self.writes += 1

    def read(self) -> None:
        rng = random.Random(20260501)
        self._read(rng)  # of the whole backlog, before the first merge
        self.start_barrier.wait(60)
        while not self.stopped.is_set():
            self._read(rng)

    def _read(self, rng: random.Random) -> None:
        last = START + self.written * POINT_INTERVAL * SECOND
        first = START + rng.randrange(self.written - HOUR // POINT_INTERVAL) * POINT_INTERVAL * SECOND
        number = rng.randrange(SERIES_COUNT)
        self.wrong_points += count_wrong_points(self.series, first, min(first + HOUR * SECOND, last), [number])
        newest = latest.read_latest_points(["d"], [f"m{number}"], now=to_datetime(last)).points
        self.wrong_points += not newest or to_microseconds(newest[0].timestamp) < last - POINT_INTERVAL * SECOND
        self.reads += 1


@dataclass(frozen=True)
class BacklogResult:
    """The result of merging a backlog."""

    passes: int  # runs of the merge tasks
    unmerged_commits: int
    reads: int  # during the merges
    writes: int
    wrong_points: int  # points read with wrong values


def merge_backlog(commits: int) -> BacklogResult:
    migrate()
    series = create_fleet()
    with connect() as storage:
        insert_commits(storage, series, commits)
        traffic = ConcurrentTraffic(series, commits)
        threads = [threading.Thread(target=target) for target in (traffic.write, traffic.read)]
        for thread in threads:
            thread.start()
        traffic.start_barrier.wait(60)
        passes, unmerged = 0, commits
        while unmerged > MIN_COMMITS and passes < 20:
            tasks.merge_young_blocks()
            tasks.merge_blocks()
            passes += 1
            [(unmerged,)] = storage.execute(
                "SELECT count(*) FROM metrics_young y, metrics_merged m WHERE y.seq > m.seq"
            ).fetchall()
        reads, writes = traffic.reads, traffic.writes
        traffic.stopped.set()
        for thread in threads:
            thread.join()
    differences = count_wrong_points(series, START, START + traffic.written * POINT_INTERVAL * SECOND)
    return BacklogResult(passes, unmerged, reads, writes, traffic.wrong_points + differences)
