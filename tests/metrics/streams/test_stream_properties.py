"""What clients draw equals what is stored, whatever is written, merged, replaced and disconnected in any order."""

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from metrics.storage.connection import connect
from metrics.storage.merge import schedule as merge
from metrics.storage.read import block_cache
from metrics.storage.write.group_commit import JournalEntry, writer
from metrics.storage.write.incoming import IncomingPoints
from metrics.streams.commit_follower import CommitFollower
from metrics.streams.encoding import SeriesValue
from metrics.streams.feeds import Feed, FeedBatch, FeedKey, newest_by_series, without_known
from metrics.streams.gaps import read_gap, read_snapshot
from metrics.streams.positions import Position
from tests.metrics.stored_points import read_stored_values
from tests.metrics.test_storage import shards

__all__ = ["shards"]

HOUR = 3_600_000_000
NOON = int(datetime.now(UTC).timestamp()) // 86_400 * 86_400_000_000 - 12 * HOUR  # of yesterday
START, END = (datetime.fromtimestamp(NOON / 1_000_000 + hours * 3_600, UTC) for hours in (-240, 240))
TEXT = 600
SERIES = {1: "number", 255: "other", 256: "third", TEXT: "number"}  # metric by series; one has two kinds of values
KEYS = [FeedKey(None, None, max_frequency_ms=1), FeedKey(None, frozenset({"number", "third"}), max_frequency_ms=1)]

Drawn = dict[str, dict[int, Any]]

write = st.tuples(
    st.sampled_from(sorted(SERIES)), st.integers(0, 6), st.integers(-5, 5), st.sampled_from([0, 0, 0, -1, -3])
)
commit = st.lists(write, min_size=1, max_size=4)


def read_range(metric: str) -> dict[int, Any]:
    """Return the stored points of a metric by time."""
    points = read_stored_values("d", metric, START, END)
    values = points.values if isinstance(points.values, list) else points.values.tolist()
    return dict(zip(points.times.tolist(), values, strict=True))


class Client:
    """A client that merges by time what it receives, and reads a series again after skipped values."""

    def __init__(self, key: FeedKey) -> None:
        self.key = key
        self.drawn: Drawn = {}
        self.newest: dict[str, int] = {}
        self.position: Position | None = None
        self.feed: Feed | None = None
        self.must_start = False  # the follower missed commits
        self._skipped: set[str] = set()
        self._loading: list[FeedBatch] | None = None

    @property
    def metrics(self) -> set[str]:
        return {metric for metric in SERIES.values() if self.key.matches("d", metric)}

    def offer(self, batch: FeedBatch) -> None:
        if self._loading is not None:
            self._loading.append(batch)
        else:
            self._take(batch.values, batch.position)

    def lost(self) -> None:
        self.must_start = True

    async def connect(self, follower: CommitFollower) -> None:
        """Subscribe, and read what was missed, or everything without a position."""
        self.feed = await follower.subscribe(self.key)
        self._loading = []
        self.feed.attach(self)
        position = self.feed.position
        gap = None
        if self.position is not None:
            gap = await asyncio.to_thread(read_gap, self.key, self.position)
        if gap is not None and gap.recovered:
            values, known_values = gap.values, gap.known
        else:
            values = known_values = await self._start()
        self.feed.mark_sent(self, known_values)
        for value in values:
            self._draw(value)
        self._move_to(position)
        known = newest_by_series(known_values)
        loaded, self._loading = self._loading, None
        for batch in loaded:
            self._take(without_known(batch.values, known), batch.position)

    async def _start(self) -> list[SeriesValue]:
        self.position, self.newest, self.must_start = None, {}, False
        values = await asyncio.to_thread(read_snapshot, self.key)
        await self._reload(self.metrics)
        return values

    def disconnect(self, follower: CommitFollower) -> None:
        assert self.feed is not None
        self.feed.detach(self)
        follower.release(self.feed)
        self.feed = None

    async def settle(self) -> None:
        """Read series with skipped values again, as charts do."""
        if self.must_start:
            assert self.feed is not None
            self.feed.mark_sent(self, await self._start())
        skipped, self._skipped = self._skipped, set()
        await self._reload(skipped)

    async def _reload(self, metrics: set[str]) -> None:
        for metric in metrics:
            self.drawn[metric] = await asyncio.to_thread(read_range, metric)

    def _take(self, values: list[SeriesValue], position: str | None) -> None:
        if self.must_start:
            return  # until the snapshot
        for value in values:
            newest = self.newest.get(value.metric_name)
            assert value.late or newest is None or value.timestamp > newest, (value, newest)
            self._draw(value)
            if value.skipped:
                self._skipped.add(value.metric_name)
        if position is not None:
            self._move_to(position)

    def _draw(self, value: SeriesValue) -> None:
        self.drawn.setdefault(value.metric_name, {})[value.timestamp] = value.value
        self.newest[value.metric_name] = max(value.timestamp, self.newest.get(value.metric_name, value.timestamp))

    def _move_to(self, text: str) -> None:
        position = Position.parse(text)
        if self.position is not None:
            assert all(new >= old for new, old in zip(position.offsets, self.position.offsets, strict=True))
        self.position = position


class StreamMachine(RuleBasedStateMachine):
    """Commits, merges and clients that come and go; the follower runs only while a rule waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.follower = CommitFollower()
        self.clients = [Client(key) for key in KEYS for _ in range(2)]
        self.connection = connect()
        self.connection.execute(
            "TRUNCATE metrics_young, metrics_block, metrics_rollup, metrics_latest, metrics_journal, metrics_count;"
            "UPDATE metrics_head SET seq = 0, checksum = ''; UPDATE metrics_merged SET seq = 0",
            prepare=False,
        )
        block_cache.clear_block_cache()
        self.connection.execute("INSERT INTO metrics_device VALUES (1, 'd', '', NULL, now()) ON CONFLICT DO NOTHING")
        for series, metric in SERIES.items():
            kind, has_other_kinds = (2 if series == TEXT else 0), metric == "number"
            self.connection.execute(
                "INSERT INTO metrics_series (id, metric_name, kind, device_id, has_other_kinds)"
                " VALUES (%s, %s, %s, 1, %s) ON CONFLICT DO NOTHING",
                (series, metric, kind, has_other_kinds),
            )
        self.connection.execute("UPDATE metrics_head SET other_kinds_revision = other_kinds_revision + 1")

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        self.runner.run(work)

    def store(self, rows: list[tuple[int, int, int, int]]) -> None:
        arrivals = []
        for series, hour, value, day in rows:
            content: Any = np.array([float(value)])
            if series == TEXT:
                content = np.array([str(value).encode()], object)
            time = NOON + day * 24 * HOUR + hour * HOUR
            arrivals.append(IncomingPoints(np.array([series]), np.array([time]), content))
        writer().submit(arrivals, JournalEntry("test", 0.0, len(rows)))

    @rule(commits=st.lists(commit, min_size=1, max_size=4))
    def write(self, commits: list[list[tuple[int, int, int, int]]]) -> None:
        for rows in commits:
            self.store(rows)

    @rule(rows=commit)
    def write_while_clients_follow(self, rows: list[tuple[int, int, int, int]]) -> None:
        for row in rows:
            self.run(asyncio.to_thread(self.store, [row]))
            self.run(asyncio.sleep(0.02))

    @rule(mode=st.sampled_from(["commits", "days", "commits, which followers can read a little longer"]))
    def merge(self, mode: str) -> None:
        if mode.startswith("commits,"):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(merge, "_delete_merged_commits", lambda *_: None)
                merge.merge_commits(self.connection, force=True)
            return
        merge.merge_commits(self.connection, force=True)
        if mode == "days":
            merge.merge_days(self.connection, force=True)

    @rule(data=st.data())
    def connect_or_disconnect(self, data: st.DataObject) -> None:
        client = data.draw(st.sampled_from(self.clients))
        if client.feed is None:
            self.run(client.connect(self.follower))
        else:
            client.disconnect(self.follower)

    @precondition(lambda self: any(client.feed for client in self.clients))
    @rule()
    def all_is_read(self) -> None:
        self.run(self._settle())
        for client in self.clients:
            if client.feed is not None:
                for metric in client.metrics:
                    assert client.drawn.get(metric, {}) == read_range(metric), metric

    async def _settle(self) -> None:
        [heads] = self.connection.execute("SELECT array_agg(seq ORDER BY shard) FROM metrics_head").fetchall()
        async with asyncio.timeout(10):
            while list(Position.parse(self.follower.position).offsets) != heads[0]:
                await asyncio.sleep(0.005)
            while any(client.feed and client.feed.is_sending for client in self.clients):
                await asyncio.sleep(0.005)
        for client in self.clients:
            if client.feed is not None:
                await client.settle()

    @invariant()
    def every_commit_is_decoded_once(self) -> None:
        [(commits,)] = self.connection.execute("SELECT sum(seq) FROM metrics_head").fetchall()
        assert self.follower.decoded_commits <= commits

    def teardown(self) -> None:
        for client in self.clients:
            if client.feed is not None:
                client.disconnect(self.follower)
        self.follower.close()
        self.runner.close()
        self.connection.close()


@pytest.mark.slow
def test_clients_draw_what_is_stored_after_any_order_of_writes_merges_and_disconnects(shards: int, site: None) -> None:
    run_state_machine_as_test(
        StreamMachine,
        settings=settings(
            max_examples=12,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.generate],  # shrinking takes many minutes
        ),
    )
