"""Reads of unmerged and merged points equal a model kept in a dictionary."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from metrics.query.latest import _newest_positions
from metrics.storage.connection import connect
from metrics.storage.format.codec import Columns
from metrics.storage.merge import schedule as merge
from metrics.storage.merge.rollups import BucketDay
from metrics.storage.read import block_cache, latest
from metrics.storage.write.group_commit import JournalEntry, writer
from metrics.storage.write.incoming import IncomingPoints
from tests.metrics.point_count_checks import check_point_counts, count_unmerged_points
from tests.metrics.stored_points import read_stored_parts

DAY = 86_400_000_000
TODAY = 20_000 * DAY  # in the past: every day in these tests is over
NOW = TODAY / 1_000_000  # seconds
SERIES = [1, 255, 256, 600]  # in three buckets; few, so that writes overlap

EVERY_HOUR = 1_000_000  # hours; keeps the hourly counts of all points
_UNMERGED = """
SELECT (SELECT count(*) FROM metrics_young y JOIN metrics_merged m USING (shard) WHERE y.seq > m.seq)
    + (SELECT count(*) FROM (SELECT 1 FROM metrics_block GROUP BY shard, bucket, day
       HAVING count(DISTINCT seq_to) > 1 OR count(*) > 1) several)
"""

point = st.tuples(
    st.sampled_from(SERIES), st.integers(0, 3), st.integers(-5, 5), st.sampled_from([b"", b'["celsius"]'])
)
batch = st.lists(point, min_size=1, max_size=30)


@pytest.fixture(params=[1, 3])
def shards(request, settings):
    """Number of shards; request this fixture before `site`."""
    settings.SHARDS = request.param
    return request.param


def store_points(rows: list[tuple[int, int, float, bytes]], texts: bool = False) -> None:
    dictionary = sorted({row[3] for row in rows} | {b""})
    values = np.empty(len(rows), object if texts else np.float64)
    values[:] = [repr(row[2]).encode() if texts else row[2] for row in rows]
    arrivals = IncomingPoints(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int64),
        values,
        np.array([dictionary.index(row[3]) for row in rows], np.int32),
        dictionary,
    )
    writer().submit([arrivals], JournalEntry("test", 0.0, len(rows)))


def read_latest_points(start: int) -> list[Columns]:
    """Return the latest points; creates the device and series that `latest` needs."""
    with connect() as connection:
        connection.execute("INSERT INTO metrics_device VALUES (1, 'd', '', NULL, now()) ON CONFLICT DO NOTHING")
        for series in SERIES:
            row = (series, f"m{series}", 0, 1)
            connection.execute(
                "INSERT INTO metrics_series (id, metric_name, kind, device_id) VALUES (%s, %s, %s, %s)"
                " ON CONFLICT DO NOTHING",
                row,
            )
    latest_result = latest.find_latest(None, None, start)
    positions = _newest_positions(
        [series_row.id for series_row in latest_result.series], latest_result.candidates, start
    )
    return [part.points(index, index + 1) for part, index in positions.values()]


def points_by_key(parts: list[Columns]) -> dict[tuple[int, int], tuple[object, bytes]]:
    points = {}
    for part in parts:
        for index, series in enumerate(part.series().tolist()):
            entry = b"" if part.contexts is None else part.dictionary[part.contexts[index]]
            points[series, int(part.times[index])] = (part.values[index], entry)
    return points


class StorageMachine(RuleBasedStateMachine):
    """Writes, repeated writes, late writes, merges and reads in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[tuple[int, int], tuple[object, bytes]] = {}
        self.sent: list[list[tuple[int, int, float, bytes]]] = []
        self.connection = connect()
        self.connection.execute(
            "TRUNCATE metrics_young, metrics_block, metrics_rollup, metrics_latest, metrics_journal, metrics_count;"
            "UPDATE metrics_head SET seq = 0, checksum = ''; UPDATE metrics_merged SET seq = 0",
            prepare=False,
        )
        block_cache.clear_block_cache()

    def _write(self, rows: list[tuple[int, int, float, bytes]]) -> None:
        store_points(rows)
        self.model |= {(series, time): (value, entry) for series, time, value, entry in rows}

    @rule(commits=st.lists(st.tuples(batch, st.integers(-1, 0), st.booleans()), min_size=1, max_size=3))
    def write(self, commits):
        for rows, day, merged in commits:
            points = [(s, TODAY + day * DAY + t * 3_600_000_000, float(v), e) for s, t, v, e in rows]
            self.sent.append(points)
            self._write(points)
            if merged:
                merge.merge_commits(self.connection, force=True)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def replay(self, data):
        self._write(data.draw(st.sampled_from(self.sent)))

    @rule(data=st.data())
    def merge(self, data):
        bucket_days = self.connection.execute("SELECT DISTINCT shard, bucket, day FROM metrics_block").fetchall()
        mode = data.draw(st.sampled_from(["commits", "runs", "everything", "killed"]))
        if mode == "commits":
            merge.merge_commits(self.connection, force=True)
        elif mode == "everything":
            merge.merge_days(self.connection, force=True, now=NOW)
        elif mode == "killed":
            with connect() as other, other.transaction(force_rollback=True):
                merge.merge_commits(other, force=True)
                merge.merge_days(other, force=True)
        elif bucket_days:
            shard, bucket, day = data.draw(st.sampled_from(sorted(bucket_days)))
            level = data.draw(st.sampled_from([2, 3, merge.DAY_LEVEL]))
            merge.merge_day(self.connection, BucketDay(shard, bucket, day), level, NOW)

    @invariant()
    def reads_match_the_model(self):
        self.check()

    @invariant()
    def stored_counts_match_the_blocks(self):
        """Check the stored counts against the blocks, and against the model once everything is merged."""
        counts = check_point_counts(self.connection, by_hour=True)
        expected = Counter(series for series, _ in self.model)
        if self.connection.execute(_UNMERGED).fetchone() == (0,):
            assert counts == expected
        else:
            unmerged = count_unmerged_points(self.connection)
            assert all(counts.get(series, 0) + unmerged.get(series, 0) >= count for series, count in expected.items())

    def check(self):
        low, high = TODAY - 4 * DAY, TODAY + 3 * DAY
        assert points_by_key(read_stored_parts(SERIES, low, high)) == self.model
        newest = {}
        for (series, time), value in self.model.items():
            if series not in newest or newest[series][0] < time:
                newest[series] = (time, value)
        assert {
            series: (time, value) for (series, time), value in points_by_key(read_latest_points(low)).items()
        } == newest

    def teardown(self) -> None:
        self.connection.close()


@pytest.mark.slow
def test_reads_match_the_model_after_any_order_of_writes_and_merges(shards, site, monkeypatch):
    monkeypatch.setattr("metrics.storage.merge.point_counts.HOURLY_RETENTION", EVERY_HOUR)
    run_state_machine_as_test(
        StorageMachine,
        settings=settings(
            max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def test_texts_are_merged_like_numbers(shards, site):
    store_points([(1, TODAY, 1.0, b""), (2, TODAY, 2.0, b"")])
    store_points([(3, TODAY, 3.0, b""), (3, TODAY + DAY, 4.0, b"")], texts=True)
    with connect() as connection:
        merge.merge_commits(connection, force=True)
        merge.merge_days(connection, force=True)
        assert connection.execute("SELECT count(*) FROM metrics_young").fetchone() == (0,)
    values = [value for value, _ in points_by_key(read_stored_parts([1, 2, 3], TODAY, TODAY + 2 * DAY)).values()]
    assert sorted(map(str, values)) == ["1.0", "2.0", "b'3.0'", "b'4.0'"]


def test_commits_have_gapless_numbers_and_a_checksum_chain_per_shard(shards, site):
    for number in range(5):
        store_points([(1, TODAY + number, 1.0, b""), (256, TODAY + number, 1.0, b"")])
    with connect() as connection:
        rows = connection.execute("SELECT shard, seq FROM metrics_journal ORDER BY shard, seq").fetchall()
        entries = connection.execute(
            "SELECT shard, sum(jsonb_array_length(entries::jsonb)) FROM metrics_journal GROUP BY 1"
        )
        entry_counts = {shard: count for shard, count in entries.fetchall() if count}
        chain_is_valid = connection.execute(
            "SELECT bool_and(checksum = sha256(before || digest)) FROM (SELECT checksum, digest,"
            " coalesce(lag(checksum) OVER (PARTITION BY shard ORDER BY seq), ''::bytea) AS before"
            " FROM metrics_journal) chain"
        ).fetchone()
    used_shards = range(min(shards, 2))
    assert rows == [(shard, seq) for shard in used_shards for seq in (1, 2, 3, 4, 5)]
    assert entry_counts == {0: 5}  # each request once, even over several shards
    assert chain_is_valid == (True,)


def test_gap_in_the_commits_stops_the_merge(site):
    for number in range(3):
        store_points([(1, TODAY + number, 1.0, b"")])
    with connect() as connection:
        connection.execute("DELETE FROM metrics_young WHERE seq = 2")
        with pytest.raises(RuntimeError, match="missing"):
            merge.merge_commits(connection, force=True)


def test_concurrent_merges_merge_each_commit_once(site):
    store_points([(1, TODAY, 1.0, b"")])
    with connect() as first, connect() as second:
        with first.transaction():
            assert merge._merge_commits_once(first, 0, force=True) == 1
            assert merge._merge_commits_once(second, 0, force=True) == 0
        assert merge._merge_commits_once(second, 0, force=True) == 0


def test_merged_commits_are_kept_for_followers_during_the_grace_period(site):
    store_points([(1, TODAY, 1.0, b"")])
    with connect() as connection:
        merge._merge_commits_once(connection, 0, force=True)
        merge._delete_merged_commits(connection, keep=merge.FOLLOWER_GRACE)
        assert [seq for (_, seq), _ in block_cache.read_commits_after(connection, {0: 0})] == [1]
        assert len(points_by_key(read_stored_parts([1], TODAY, TODAY + 1))) == 1
        connection.execute("UPDATE metrics_young SET at = now() - interval '2 minutes'")
        merge._delete_merged_commits(connection, keep=merge.FOLLOWER_GRACE)
        assert block_cache.read_commits_after(connection, {0: 0}) == []


def test_unmerged_commits_are_never_deleted(site):
    store_points([(1, TODAY, 1.0, b"")])
    with connect() as connection:
        connection.execute("UPDATE metrics_young SET at = now() - interval '1 day'")
        merge._delete_merged_commits(connection, keep=0.0)
        assert [seq for (_, seq), _ in block_cache.read_commits_after(connection, {0: 0})] == [1]
