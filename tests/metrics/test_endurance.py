"""Eight hours, and a pile that a stopped worker left: what there is stays within bounds, and every point is there."""

from metrics.storage.merge.schedule import FOLLOWER_GRACE, MAX_COMMIT_AGE, RUNS_PER_MERGE
from metrics.storage.write.journal import PACK_DELAY, PACK_LINES
from tests.forked_process import Database, run_forked
from tests.metrics import hours, pile
from tests.metrics.hours import CACHE, COMMIT, HOUR, SERIES, STEP

YOUNG = (FOLLOWER_GRACE + MAX_COMMIT_AGE) / COMMIT + 2  # commits that wait, or that followers may still want
BLOCKS = 3 * (RUNS_PER_MERGE - 1) + 12  # runs of three levels on the day that goes on, rows of the day that is over
LINES = PACK_LINES + (PACK_DELAY + 60) / COMMIT  # of the journal, each in a row of its own
BYTES_A_POINT = 4.0  # on disk, indexes and free pages among them
GROWTH = 128 * 1024  # bytes that a table may grow of which nothing is kept
MEMORY = 24 * 2**20


def test_eight_hours_of_ingest_keep_tables_cache_and_memory_within_bounds(database: Database) -> None:
    samples, wrong = run_forked(database, hours.pass_hours, 8)
    assert wrong == 0
    first, last = samples[0], samples[-1]
    assert len(samples) == 8
    assert max(one.young for one in samples) <= YOUNG
    assert max(one.waiting for one in samples) <= YOUNG
    assert max(one.blocks for one in samples) <= BLOCKS
    assert [one.unsettled_days for one in samples] == [
        0,
        0,
        0,
        1,
        0,
        0,
        0,
        0,
    ]  # at midnight itself the day is just over
    assert max(one.journal for one in samples) <= LINES
    for table in ("young", "latest", "head", "merged"):
        assert last.bytes[table] <= first.bytes[table] + GROWTH, table
    assert last.bytes["block"] <= BYTES_A_POINT * SERIES * 8 * HOUR / STEP
    assert max(one.cached for one in samples) <= CACHE
    assert last.memory - samples[1].memory <= MEMORY


def test_backlog_of_thousands_of_commits_is_merged_during_reads_and_writes(database: Database) -> None:
    worked = run_forked(database, pile.work_off, 6_000)
    assert worked.wrong == 0
    assert worked.passes <= 3
    assert min(worked.reads, worked.writes) > 0
