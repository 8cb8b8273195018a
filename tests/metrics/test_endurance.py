"""Bounds of tables, cache and memory over eight hours and under a backlog of commits, with every point intact."""

import pytest

from metrics.storage.merge.schedule import FOLLOWER_GRACE, MAX_COMMIT_AGE, RUNS_PER_MERGE
from metrics.storage.write.journal import PACK_DELAY, PACK_LINES
from tests.forked_process import Database, run_forked
from tests.metrics import backlog_load, simulated_hours
from tests.metrics.simulated_hours import CACHE_BYTES, COMMIT_INTERVAL, HOUR, POINT_INTERVAL, SERIES_COUNT

pytestmark = pytest.mark.slow

MAX_COMMITS = (FOLLOWER_GRACE + MAX_COMMIT_AGE) / COMMIT_INTERVAL + 2  # unmerged, or kept for followers
MAX_BLOCKS = 3 * (RUNS_PER_MERGE - 1) + 12  # runs of three levels today, day blocks of yesterday
MAX_LINES = PACK_LINES + (PACK_DELAY + 60) / COMMIT_INTERVAL  # unpacked journal lines
MAX_BYTES_PER_POINT = 4.0  # on disk, with indexes and free pages
MAX_GROWTH = 128 * 1024  # bytes, of tables whose rows are deleted again
MAX_MEMORY_GROWTH = 24 * 2**20


def test_eight_hours_of_ingest_keep_tables_cache_and_memory_within_bounds(database: Database) -> None:
    samples, wrong_points = run_forked(database, simulated_hours.simulate_hours, 8)
    assert wrong_points == 0
    first, last = samples[0], samples[-1]
    assert len(samples) == 8
    assert max(sample.commits for sample in samples) <= MAX_COMMITS
    assert max(sample.unmerged_commits for sample in samples) <= MAX_COMMITS
    assert max(sample.blocks for sample in samples) <= MAX_BLOCKS
    assert [sample.unfinished_days for sample in samples] == [
        0,
        0,
        0,
        1,
        0,
        0,
        0,
        0,
    ]  # at midnight the past day is not merged yet
    assert max(sample.journal for sample in samples) <= MAX_LINES
    for table in ("young", "latest", "head", "merged"):
        assert last.bytes[table] <= first.bytes[table] + MAX_GROWTH, table
    assert last.bytes["block"] <= MAX_BYTES_PER_POINT * SERIES_COUNT * 8 * HOUR / POINT_INTERVAL
    assert max(sample.cached for sample in samples) <= CACHE_BYTES
    assert last.memory - samples[1].memory <= MAX_MEMORY_GROWTH


def test_backlog_of_thousands_of_commits_is_merged_during_reads_and_writes(database: Database) -> None:
    result = run_forked(database, backlog_load.merge_backlog, 6_000)
    assert result.wrong_points == 0
    assert result.passes <= 3
    assert min(result.reads, result.writes) > 0
