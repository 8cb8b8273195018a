"""A worker that was away for hours comes back to thousands of commits; devices go on writing, and people asking."""

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
from metrics.storage.write.writer import IncomingPoints, build_block
from tests.metrics.hours import HOUR, SERIES, STEP, commit, fleet, value, wrong
from tests.metrics.steps import migrate

SECOND = 1_000_000
START = 20_500 * 86_400 * SECOND


def heap(storage: Connection, series: list[int], commits: int) -> None:
    """Commits as the writer makes them, without the wait for each; an hour old, so that none is kept for followers."""
    ids = np.array(series)
    rows = []
    for number in range(commits):
        times = np.full(SERIES, START + number * STEP * SECOND)
        payload = encode(build_block([IncomingPoints(ids, times, value(ids, times))]))
        rows.append((number + 1, SERIES, int(times[0]), int(times[0]), payload))
    with storage.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO metrics_young (shard, seq, at, points, time_from, time_to, payload)"
            " VALUES (0, %s, now() - interval '1 hour', %s, %s, %s, %s)",
            rows,
        )
    storage.execute("UPDATE metrics_head SET seq = %s", (commits,))


@dataclass
class Traffic:
    """Writes one after the other and reads of what was acknowledged, until it is told to end."""

    series: list[int]
    written: int  # commits that are acknowledged
    reads: int = 0
    writes: int = 0
    wrong: int = 0
    going: threading.Barrier = field(default_factory=lambda: threading.Barrier(3))
    over: threading.Event = field(default_factory=threading.Event)

    def write(self) -> None:
        self.going.wait(60)
        while not self.over.is_set():
            commit(self.series, [START + self.written * STEP * SECOND])
            self.written += 1
            self.writes += 1

    def read(self) -> None:
        dice = random.Random(20260501)
        self._read(dice)  # of the whole pile, before anything of it is merged
        self.going.wait(60)
        while not self.over.is_set():
            self._read(dice)

    def _read(self, dice: random.Random) -> None:
        last = START + self.written * STEP * SECOND
        first = START + dice.randrange(self.written - HOUR // STEP) * STEP * SECOND
        number = dice.randrange(SERIES)
        self.wrong += wrong(self.series, first, min(first + HOUR * SECOND, last), [number])
        newest = latest.read_latest_points(["d"], [f"m{number}"], now=to_datetime(last)).points
        self.wrong += not newest or to_microseconds(newest[0].timestamp) < last - STEP * SECOND
        self.reads += 1


@dataclass(frozen=True)
class Worked:
    """What became of a pile."""

    passes: int  # of the task
    waiting: int  # commits that are not merged in the end
    reads: int  # while it was worked off
    writes: int
    wrong: int  # points, of all that was read meanwhile and in the end


def work_off(commits: int) -> Worked:
    migrate()
    series = fleet()
    with connect() as storage:
        heap(storage, series, commits)
        traffic = Traffic(series, commits)
        threads = [threading.Thread(target=one) for one in (traffic.write, traffic.read)]
        for thread in threads:
            thread.start()
        traffic.going.wait(60)
        passes, waiting = 0, commits
        while waiting > MIN_COMMITS and passes < 20:
            tasks.merge_young_blocks()
            tasks.merge_blocks()
            passes += 1
            [(waiting,)] = storage.execute(
                "SELECT count(*) FROM metrics_young y, metrics_merged m WHERE y.seq > m.seq"
            ).fetchall()
        reads, writes = traffic.reads, traffic.writes
        traffic.over.set()
        for thread in threads:
            thread.join()
    differences = wrong(series, START, START + traffic.written * STEP * SECOND)
    return Worked(passes, waiting, reads, writes, traffic.wrong + differences)
