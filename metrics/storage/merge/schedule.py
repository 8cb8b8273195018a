"""Scheduling of merges: unmerged blocks become fewer, larger blocks, and in the end the day blocks of each bucket.

A merge takes an unbroken run of commits, inserts the result with the first and last `seq` of the run, and deletes the
sources, in one transaction: a reader sees the old blocks or the new one, and a killed worker leaves nothing behind.
An advisory lock admits one merge per day of a bucket; a second worker skips that day. A damaged source is quarantined
(metrics.storage.merge.damaged_blocks), and no run spans it from then on.

level 0          unmerged: one commit; merged in order of `seq`, one merge per shard at a time
level 1…         runs of one bucket and day; RUNS_PER_MERGE runs of a level become one of the next
level DAY_LEVEL  day blocks: everything of the bucket and day, in rows of one or few series
"""

import time

import psycopg

from metrics.storage import shards
from metrics.storage.connection import Connection, database_time
from metrics.storage.format.layout import DAY_LEVEL, merge_by_encoding, newest_points
from metrics.storage.locks import lock_unmerged_blocks
from metrics.storage.merge import damaged_blocks
from metrics.storage.merge.insert_blocks import MergeRun, insert_run
from metrics.storage.merge.merge_day import merge_day
from metrics.storage.merge.point_counts import CountChange
from metrics.storage.merge.rollups import BucketDay
from metrics.storage.read import latest
from metrics.storage.units import DAY

RUNS_PER_MERGE = 12
MAX_MERGE_POINTS = 1_000_000  # of one merge of commits
MIN_COMMITS = 256  # commits are merged from this many commits…
MIN_POINTS = 500_000  # … or points…
MAX_COMMIT_AGE = 20.0  # … or seconds since the oldest commit
FOLLOWER_GRACE = 60.0  # seconds that followers can read a merged commit
DAY_GRACE = 900.0  # seconds after midnight until day blocks are made
LATE_POINTS_GRACE = 600.0  # seconds until late points are merged into a finished day

_UNFINISHED_DAYS = """
SELECT shard, bucket, day, level, count(DISTINCT seq_from), extract(epoch FROM now() - min(made_at))
FROM metrics_block WHERE shard = ANY(%s) AND level < %s
GROUP BY shard, bucket, day, level ORDER BY day DESC, bucket, level
"""


_DELETE_MERGED = """
DELETE FROM metrics_young y USING metrics_merged m
WHERE y.shard = m.shard AND y.shard = ANY(%(shards)s) AND m.shard = ANY(%(shards)s) AND y.seq <= m.seq
  AND y.at < now() - make_interval(secs => %(keep)s)
"""


def merge_commits(connection: Connection, force: bool = False) -> int:
    """Merge unmerged commits while there are enough of them; return how many points were merged.

    A second worker skips the shards that the first one has locked.
    """
    total = 0
    failures = []
    for shard in shards.reachable_shards():
        try:
            while merged := _merge_commits_once(connection, shard, force):
                total += merged
        except RuntimeError as error:  # the other shards are still merged
            failures.append(error)
        except psycopg.OperationalError as error:
            if not shards.is_node_failure(connection, error):
                raise
    _delete_merged_commits(connection, 0.0 if force else FOLLOWER_GRACE)
    if failures:
        raise failures[0]
    return total


def _merge_commits_once(connection: Connection, shard: int, force: bool) -> int:
    with connection.transaction():
        if not lock_unmerged_blocks(connection, shard):
            return 0
        commits_waiting = connection.execute(
            "SELECT y.seq, y.points, extract(epoch FROM now() - y.at)"
            " FROM metrics_young y JOIN metrics_merged m ON m.shard = y.shard"
            " WHERE m.shard = %s AND y.seq > m.seq ORDER BY y.seq LIMIT 5000",
            (shard,),
        ).fetchall()
        points = sum(row[1] for row in commits_waiting)
        enough = (
            len(commits_waiting) >= MIN_COMMITS
            or points >= MIN_POINTS
            or (commits_waiting and commits_waiting[0][2] >= MAX_COMMIT_AGE)
        )
        if not commits_waiting or not (enough or force):
            return 0
        seqs, size = [], 0
        for seq, count, _ in commits_waiting:
            seqs.append(seq)
            size += count
            if size >= MAX_MERGE_POINTS:
                break
        if seqs[-1] - seqs[0] != len(seqs) - 1:  # a gap would let old values replace newer ones
            raise RuntimeError(f"commits of shard {shard} are missing between {seqs[0]} and {seqs[-1]}")
        commits = connection.execute(
            "SELECT seq, payload FROM metrics_young WHERE shard = %s AND seq BETWEEN %s AND %s ORDER BY seq",
            (shard, seqs[0], seqs[-1]),
            binary=True,
        )
        change = CountChange(connection, shard)
        for first, last, parts in damaged_blocks.decode_commit_runs(connection, shard, commits):
            for columns in merge_by_encoding(parts):
                insert_run(connection, columns, MergeRun(shard, 1, first, last), change)
                change.add(columns)
                latest.update_latest(connection, shard, newest_points(columns))
        connection.execute("UPDATE metrics_merged SET seq = %s WHERE shard = %s", (seqs[-1], shard))
        change.apply()
        return size


def _delete_merged_commits(connection: Connection, keep: float) -> None:
    shards.read_reachable(connection, lambda those: connection.execute(_DELETE_MERGED, {"shards": those, "keep": keep}))


def merge_days(connection: Connection, force: bool = False, budget: float = 25.0, now: float | None = None) -> int:
    """Merge the days that have enough runs, for at most `budget` seconds; return the points merged.

    With `force` every day is merged into day blocks, today included.
    """
    started, total = time.monotonic(), 0
    runs_by_day = shards.read_reachable(
        connection, lambda those: connection.execute(_UNFINISHED_DAYS, (those, DAY_LEVEL)).fetchall()
    )
    now = database_time(connection) if now is None else now
    today = int(now * 1_000_000) // DAY
    yesterday_done = (now % 86400) >= DAY_GRACE
    merged_days: set[tuple[int, int]] = set()
    for shard, bucket, day, level, runs, age in runs_by_day:
        if time.monotonic() - started > budget and not force:
            break
        if (bucket, day) in merged_days:
            continue
        is_over = day < today - 1 or (day == today - 1 and yesterday_done)
        if force or (is_over and (age >= LATE_POINTS_GRACE or runs >= RUNS_PER_MERGE)):
            total += merge_day(connection, BucketDay(shard, bucket, day), DAY_LEVEL, now)
            merged_days.add((bucket, day))
        elif runs >= RUNS_PER_MERGE and not is_over:
            total += merge_day(connection, BucketDay(shard, bucket, day), level + 1, now)
    return total
