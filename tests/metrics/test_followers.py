"""Followers see every commit once and in order, while several writers commit and are killed."""

import os
import subprocess
import sys
import threading
from collections import defaultdict
from pathlib import Path
from urllib.parse import urlencode

import pytest

from metrics.query import last_seen
from metrics.storage.connection import connect, connection_parameters
from metrics.storage.merge import schedule
from metrics.storage.read import block_cache
from tests.metrics.stored_points import read_stored_parts
from tests.metrics.test_storage import TODAY, points_by_key, shards, store_points

__all__ = ["shards"]
ROOT = Path(__file__).resolve().parents[2]
WRITERS = 4
MIN_COMMITS = 40  # of each writer before it is killed
# Each commit stores its number in three buckets, so that a partial commit would be visible.
WRITER = """
import sys, django
django.setup()
from metrics.storage.write.group_commit import JournalEntry, writer
from metrics.storage.write.incoming import IncomingPoints
number, first, today = map(int, sys.argv[1:])
for count in range(first, first + 10_000):
    series = [number, 256 + number, 512 + number]
    points = IncomingPoints(series, [today + count] * 3, [float(count)] * 3)
    writer().submit([points], JournalEntry(f"w{number}", 0.0, 3))
    print(count, flush=True)
"""


class WriterProcess:
    """A process that writes until it is killed."""

    def __init__(self, number: int, first: int, shards: int) -> None:
        parameters = connection_parameters()
        database_url = "postgresql:///?" + urlencode({name: str(value) for name, value in parameters.items()})
        environment = os.environ | {
            "DATABASE_URL": database_url,
            "DJANGO_SETTINGS_MODULE": "telemetry_site.settings",
            "TELEMETRY_SHARDS": str(shards),
        }
        self.number, self.first, self.last = number, first, first - 1
        self.min_commits_reached = threading.Event()
        self._process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(number), str(first), str(TODAY)],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._listening = threading.Thread(target=self._listen)
        self._listening.start()

    def _listen(self) -> None:
        for line in self._process.stdout:
            self.last = int(line)
            if self.last - self.first >= MIN_COMMITS:
                self.min_commits_reached.set()
        self.min_commits_reached.set()

    def kill(self) -> None:
        """Kill the process with SIGKILL while it writes."""
        assert self.min_commits_reached.wait(60)
        assert self._process.poll() is None
        self._process.kill()
        self._process.wait()
        self._listening.join()
        self._process.stdout.close()


class RecordingFollower(threading.Thread):
    """A follower that records the commits that it reads, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.seqs: dict[int, list[int]] = defaultdict(list)
        self.points: dict[int, dict] = defaultdict(dict)
        self.ended = threading.Event()

    def run(self) -> None:
        with connect() as connection:
            cursor = dict.fromkeys(block_cache.read_heads(connection), 0)
            ending = False
            while not ending:
                ending = self.ended.is_set()  # read before the last poll
                while commits := block_cache.read_commits_after(connection, cursor, 7):
                    for (shard, seq), parts in commits:
                        self.seqs[shard].append(seq)
                        self.points[shard] |= {key: value for key, (value, _) in points_by_key(parts).items()}
                        cursor[shard] = seq


def merge_until(ended: threading.Event) -> None:
    with connect() as connection:
        while not ended.wait(0.02):
            for shard in block_cache.read_heads(connection):
                schedule._merge_commits_once(connection, shard, force=True)


def wait_until_idle() -> None:
    """Wait until nothing is committed any more: points of a killed writer may still be on their way."""
    with connect() as connection:
        heads = None
        while heads != (heads := block_cache.read_heads(connection)):
            threading.Event().wait(0.3)


@pytest.mark.slow
def test_followers_see_every_commit_in_order_while_four_writers_are_killed(shards, site):
    followers = [RecordingFollower(), RecordingFollower()]
    merger = threading.Thread(target=merge_until, args=(followers[0].ended,))
    for thread in (*followers, merger):
        thread.start()
    try:
        writers = [WriterProcess(number, 0, shards) for number in range(1, WRITERS + 1)]
        for writer in writers[:2]:
            writer.kill()
        restarted = [WriterProcess(writer.number, writer.last + 2, shards) for writer in writers[:2]]
        for writer in (*writers[2:], *restarted):
            writer.kill()
        wait_until_idle()
    finally:
        for follower in followers:
            follower.ended.set()
        for thread in (*followers, merger):
            thread.join()
    with connect() as connection:
        heads = block_cache.read_heads(connection)
        journal = connection.execute(
            "SELECT coalesce(sum(jsonb_array_length(entries::jsonb)), 0) FROM metrics_journal"
        ).fetchone()
    acknowledged = {
        (writer.number, TODAY + count)
        for writer in (*writers, *restarted)
        for count in range(writer.first, writer.last + 1)
    }
    for follower in followers:
        assert {shard: list(range(1, seq + 1)) for shard, seq in heads.items()} == follower.seqs
        points = {key: value for shard_points in follower.points.values() for key, value in shard_points.items()}
        by_bucket = [
            {(series % 256, time) for series, time in points if series // 256 == bucket} for bucket in range(3)
        ]
        assert acknowledged <= by_bucket[0]
        assert by_bucket[0] == by_bucket[1] == by_bucket[2]  # a commit is stored completely or not at all
        assert all(value == time - TODAY for (_, time), value in points.items())
        assert journal == (len(by_bucket[0]),)  # each request is in the journal once
    low, high = TODAY, TODAY + 100_000
    series_ids = [bucket * 256 + number for bucket in range(3) for number in range(1, WRITERS + 1)]
    assert {key: value for key, (value, _) in points_by_key(read_stored_parts(series_ids, low, high)).items()} == points


def test_follower_reads_commits_larger_than_the_block_cache(site, monkeypatch):
    monkeypatch.setattr(block_cache.decoded_blocks, "_limit", 1)
    for number in range(5):
        store_points([(1, TODAY + number, 1.0, b"")])
    with connect() as connection:
        assert [seq for (_, seq), parts in block_cache.read_commits_after(connection, {0: 0}) if parts] == [
            1,
            2,
            3,
            4,
            5,
        ]


def test_last_seen_times_include_every_shard(shards, site):
    with connect() as connection:
        for number, series in enumerate((1, 256)):
            connection.execute("INSERT INTO metrics_device VALUES (%s, %s, '', NULL, now())", (number, f"d{number}"))
            connection.execute("INSERT INTO metrics_series VALUES (%s, 'm', 0, %s)", (series, number))
            store_points([(series, TODAY, 1.0, b"")])
    last_seen.clear_cache()
    assert last_seen.cached_last_seen().times.tolist() == [TODAY, TODAY]
