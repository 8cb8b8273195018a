"""Young blocks become fewer and larger ones; at the end a day of a few series is one row.

A merge takes an unbroken run of commits, inserts the result with the run's first and last `seq`, and removes the
sources, in one transaction: a reader sees the old blocks or the new one, never half, and a killed worker leaves
nothing behind. An advisory lock lets one merger at a time have a unit; a second one leaves it be.

level 0    young: one commit; merged in order of `seq`, one merger per shard
level 1…   runs of one bucket and day; TIER runs of a level become one of the next
level DAY  the day is over: everything of the bucket and day, in rows of one or few series
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from metrics.storage import rollups
from metrics.storage.blocks import DAY, SETTLED, newest, of_series, units
from metrics.storage.codec import Columns, concatenate, decode, encode
from metrics.storage.connection import Connection
from metrics.storage.insert import Run, insert_run, insert_settled
from metrics.storage.locks import lock_unit, lock_young
from metrics.storage.policies import policies
from metrics.storage.rollups import Place

SHARD = 0
TIER = 12  # runs of one level that make one of the next
MOST_AT_ONCE = 1_000_000  # points of one young merge
YOUNG_ENOUGH = 64  # commits that are worth a merge…
POINTS_ENOUGH = 50_000  # … or points…
OLD_ENOUGH = 20.0  # … or seconds that the oldest has waited
KEEP_YOUNG = 60.0  # seconds that followers have to read a commit after it was merged
DAY_GRACE = 900.0  # seconds after midnight until a day is made
LATE_GRACE = 600.0  # seconds that late points of a finished day gather before they are merged into it

_UNITS = """
SELECT bucket, day, level, count(DISTINCT seq_from), extract(epoch FROM now() - min(made_at))
FROM metrics_block WHERE shard = %s AND level < %s GROUP BY bucket, day, level ORDER BY day DESC, bucket, level
"""


def merge_young(connection: Connection, force: bool = False) -> int:
    """Merge young blocks while there are enough of them; returns how many points were merged."""
    total = 0
    while merged := _merge_young_once(connection, force):
        total += merged
    _drop_merged_young(connection, 0.0 if force else KEEP_YOUNG)
    return total


def _merge_young_once(connection: Connection, force: bool) -> int:
    with connection.transaction():
        if not lock_young(connection, SHARD):
            return 0
        waiting = connection.execute(
            "SELECT y.seq, y.points, extract(epoch FROM now() - y.at)"
            " FROM metrics_young y JOIN metrics_merged m USING (shard)"
            " WHERE y.shard = %s AND y.seq > m.seq ORDER BY y.seq LIMIT 5000",
            (SHARD,),
        ).fetchall()
        points = sum(row[1] for row in waiting)
        enough = len(waiting) >= YOUNG_ENOUGH or points >= POINTS_ENOUGH or (waiting and waiting[0][2] >= OLD_ENOUGH)
        if not waiting or not (enough or force):
            return 0
        taken, size = [], 0
        for seq, count, _ in waiting:
            taken.append(seq)
            size += count
            if size >= MOST_AT_ONCE:
                break
        if taken[-1] - taken[0] != len(taken) - 1:  # a gap would put old values over new ones
            raise RuntimeError(f"commits are missing between {taken[0]} and {taken[-1]}")
        blocks = connection.execute(
            "SELECT payload FROM metrics_young WHERE shard = %s AND seq BETWEEN %s AND %s ORDER BY seq",
            (SHARD, taken[0], taken[-1]),
            binary=True,
        )
        for columns in _by_encoding([part for (payload,) in blocks for part in decode(payload)]):
            insert_run(connection, columns, Run(1, taken[0], taken[-1]))
            _move_latest(connection, newest(columns))
        connection.execute("UPDATE metrics_merged SET seq = %s WHERE shard = %s", (taken[-1], SHARD))
        return size


def _drop_merged_young(connection: Connection, keep: float) -> None:
    connection.execute(
        "DELETE FROM metrics_young y USING metrics_merged m WHERE y.shard = m.shard AND y.shard = %s AND y.seq <= m.seq"
        " AND y.at < now() - make_interval(secs => %s)",
        (SHARD, keep),
    )


def merge_units(connection: Connection, force: bool = False, budget: float = 25.0, now: float | None = None) -> int:
    """Merge the runs of buckets and days that have enough of them, for at most `budget` seconds; returns points merged.

    `force` makes day blocks of everything, today included.
    """
    started, total = time.monotonic(), 0
    found = connection.execute(_UNITS, (SHARD, SETTLED)).fetchall()
    now = time.time() if now is None else now
    today = int(now * 1_000_000) // DAY
    yesterday_done = (now % 86400) >= DAY_GRACE
    done: set[tuple[int, int]] = set()
    for bucket, day, level, runs, age in found:
        if time.monotonic() - started > budget and not force:
            break
        if (bucket, day) in done:
            continue
        over = day < today - 1 or (day == today - 1 and yesterday_done)
        if force or (over and (age >= LATE_GRACE or runs >= TIER)):
            total += _merge_unit(connection, bucket, day, SETTLED, now)
            done.add((bucket, day))
        elif runs >= TIER and not over:
            total += _merge_unit(connection, bucket, day, level + 1, now)
    return total


def _merge_unit(connection: Connection, bucket: int, day: int, level: int, now: float) -> int:
    """What a unit has below `level` becomes one run of `level`; with SETTLED, the final rows of the day."""
    with connection.transaction():
        if not lock_unit(connection, bucket, day):
            return 0
        found = [
            _Row(*row)
            for row in connection.execute(
                "SELECT id, level, seq_from, seq_to, series_from, series_to FROM metrics_block"
                " WHERE shard = %s AND bucket = %s AND day = %s",
                (SHARD, bucket, day),
            )
        ]
        fresh = [row for row in found if row.level < level]
        if not fresh:
            return 0
        if level == SETTLED:
            settled = [row for row in found if row.level == SETTLED]
            return _settle(connection, Place(SHARD, bucket, day), fresh, settled, now)
        columns = _by_encoding([part for _, part in _take(connection, fresh)])
        for some in columns:
            insert_run(connection, some, _run(level, fresh))
        return sum(map(len, columns))


def _settle(connection: Connection, place: Place, fresh: list["_Row"], settled: list["_Row"], now: float) -> int:
    """Make the final rows of a day, those anew that late points touch, and the day's rollups."""
    first_time = not rollups.exist(connection, place)
    if not first_time:
        low, high = min(row.series_from for row in fresh), max(row.series_to for row in fresh)
        settled = [row for row in settled if row.series_from <= high and row.series_to >= low]
    taken = settled + fresh
    parts = _take(connection, taken)
    # Only of the series that had fresh points are all the day's points sure to be here: another's may be in two rows.
    complete = np.unique(np.concatenate([part.ids for row, part in parts if first_time or row.level < SETTLED]))
    columns = _by_encoding([part for _, part in parts])
    for some in columns:
        kept = policies(connection, some.ids.tolist())
        insert_settled(connection, some, _run(SETTLED, taken), kept)
        if some.is_numbers and len(due := of_series(some, complete)):
            rollups.write(connection, place, due, kept, now)
    return sum(map(len, columns))


class _Row(NamedTuple):
    """A row of merged blocks without its payload."""

    id: int
    level: int
    seq_from: int
    seq_to: int
    series_from: int
    series_to: int


def _run(level: int, taken: list[_Row]) -> Run:
    return Run(level, min(row.seq_from for row in taken), max(row.seq_to for row in taken))


def _take(connection: Connection, taken: list[_Row]) -> list[tuple[_Row, Columns]]:
    """What is in some rows, which are deleted. Older runs come first, and so the later write of a time wins:
    a run's rows share one range of seq, and the ranges of two runs of a unit never cross."""
    numbers = [row.id for row in taken]
    payloads: dict[int, bytes] = dict(
        connection.execute(
            "DELETE FROM metrics_block WHERE shard = %s AND id = ANY(%s) RETURNING id, payload",
            (SHARD, numbers),
            binary=True,
        )
    )
    return [(row, part) for row in sorted(taken, key=lambda row: row.seq_to) for part in decode(payloads[row.id])]


def _by_encoding(parts: Sequence[Columns]) -> list[Columns]:
    """Numbers as one, everything else as one, later parts over earlier ones."""
    split = ([part for part in parts if part.is_numbers], [part for part in parts if not part.is_numbers])
    return [concatenate(some) for some in split if some]


def _move_latest(connection: Connection, columns: Columns) -> None:
    """Bring the newest merged point of every series up to date; an older point moves nothing."""
    for bucket, part in _buckets(columns):
        row = connection.execute(
            "SELECT payload FROM metrics_latest WHERE shard = %s AND bucket = %s FOR UPDATE",
            (SHARD, bucket),
            binary=True,
        ).fetchone()
        held = decode(row[0]) if row else []
        moved = [newest(one) for one in _by_encoding([*held, part])]
        connection.execute(
            "INSERT INTO metrics_latest (shard, bucket, payload) VALUES (%s, %s, %s)"
            " ON CONFLICT (shard, bucket) DO UPDATE SET payload = EXCLUDED.payload",
            (SHARD, bucket, encode(moved)),
        )


def _buckets(columns: Columns) -> list[tuple[int, Columns]]:
    found: dict[int, list[Columns]] = {}
    for bucket, _, part in units(columns):
        found.setdefault(bucket, []).append(part)
    return [(bucket, concatenate(parts)) for bucket, parts in found.items()]
