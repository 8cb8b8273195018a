"""When a policy changes, the stored days of its metric move into rows of series that are kept equally long.

Which policy the rows follow is kept by metric (`GroupedBy`), apart from the definition: where the two differ there is
work to do, bucket by bucket and day by day, each in a transaction under the unit's lock. Only when every day is done
is the new policy noted, so a killed worker leaves nothing but work that is done again.
"""

import logging
import time

import numpy as np

from metrics.storage import shards
from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns, DamagedPayload, decode
from metrics.storage.format.layout import DAY_LEVEL, SERIES_PER_BUCKET
from metrics.storage.format.rollup_codec import decode_rollup
from metrics.storage.locks import lock_day
from metrics.storage.merge.insert_blocks import MergeRun, insert_day_blocks
from metrics.storage.merge.point_counts import CountChange
from metrics.storage.merge.retention_policies import DEFAULT_POLICY, RetentionPolicy, read_policies_between
from metrics.storage.merge.rollups import RESOLUTIONS, BucketDay, delete_rows, insert_rollup, rollup_retention_days
from metrics.storage.units import SECOND

log = logging.getLogger(__name__)

_CHANGED = """
SELECT coalesce(m.name, g.metric_name),
       coalesce(m.retention_days, %(points)s), coalesce(m.rollup_5m_days, %(minutes)s),
       coalesce(m.rollup_1h_days, %(hours)s), m.name IS NULL
FROM metrics_metricdefinition m FULL JOIN metrics_groupedby g ON g.metric_name = m.name
WHERE (coalesce(m.retention_days, %(points)s), coalesce(m.rollup_5m_days, %(minutes)s),
       coalesce(m.rollup_1h_days, %(hours)s))
   <> (coalesce(g.points, %(points)s), coalesce(g.minutes, %(minutes)s), coalesce(g.hours, %(hours)s))
"""
_DAYS_OF = """
SELECT shard, bucket, day FROM metrics_block WHERE shard = ANY(%(shards)s) AND bucket = ANY(%(buckets)s)
UNION SELECT shard, bucket, day FROM metrics_rollup WHERE shard = ANY(%(shards)s) AND bucket = ANY(%(buckets)s)
"""


def buckets_to_regroup(connection: Connection) -> list[int]:
    """The buckets in which a policy has changed and rows still follow the old one."""
    return _buckets_of(connection, list(_read_changed_policies(connection)))


def changed_policies(connection: Connection) -> list[str]:
    """Metrics whose rows follow another policy than theirs."""
    return sorted(_read_changed_policies(connection))


def regroup_rows(connection: Connection, budget: float = 25.0) -> int:
    """Bring rows in line with the policies, for about `budget` seconds; returns the rows written anew."""
    started, written, done = time.monotonic(), 0, True
    changed = _read_changed_policies(connection)
    wanted = {"shards": list(shards.all_shards()), "buckets": _buckets_of(connection, list(changed))}
    for place in sorted(BucketDay(*row) for row in connection.execute(_DAYS_OF, wanted).fetchall()):
        if written and time.monotonic() - started > budget:  # every run gets further than the one before
            return written
        with connection.transaction():
            if not lock_day(connection, place.bucket, place.day):  # a merge that may have read the old policy
                done = False
                continue
            known = read_policies_between(
                connection, place.bucket * SERIES_PER_BUCKET, (place.bucket + 1) * SERIES_PER_BUCKET
            )
            written += _regroup_points(connection, place, known) + _regroup_rollups(connection, place, known)
    if done:
        _store_applied_policies(connection, changed)
    return written


def _read_changed_policies(connection: Connection) -> dict[str, RetentionPolicy | None]:
    """Metrics whose rows follow another policy than theirs; None: the definition is gone."""
    rows = connection.execute(_CHANGED, DEFAULT_POLICY._asdict())
    return {name: None if gone else RetentionPolicy(*days) for name, *days, gone in rows}


def _buckets_of(connection: Connection, metrics: list[str]) -> list[int]:
    if not metrics:
        return []
    found = connection.execute(
        "SELECT DISTINCT id / %s FROM metrics_series WHERE metric_name = ANY(%s)", (SERIES_PER_BUCKET, metrics)
    )
    return [bucket for (bucket,) in found]


def _store_applied_policies(connection: Connection, changed: dict[str, RetentionPolicy | None]) -> None:
    with connection.transaction():
        for name, policy in changed.items():
            connection.execute("DELETE FROM metrics_groupedby WHERE metric_name = %s", (name,))
            if policy is not None:
                connection.execute("INSERT INTO metrics_groupedby VALUES (%s, %s, %s, %s)", (name, *policy))


def _find_misplaced_rows(rows: list[tuple[int, int, int, int]], days: dict[int, int]) -> list[int]:
    """Rows (id, keep, series from, series to) in whose reach is a series that is kept differently long.

    Told without looking into them, so that what is right already costs next to nothing.
    """
    series = np.array(sorted(days), np.int64)
    kept = np.array([days[number] for number in sorted(days)], np.int64)
    found = []
    for number, keep, first, last in rows:
        low, high = series.searchsorted(first), series.searchsorted(last, "right")
        if low == high or (kept[low:high] != keep).any():
            found.append(number)
    return found


def _regroup_points(connection: Connection, place: BucketDay, known: dict[int, RetentionPolicy]) -> int:
    where = (place.shard, place.bucket, place.day, DAY_LEVEL)
    rows = connection.execute(
        "SELECT id, keep, series_from, series_to FROM metrics_block"
        " WHERE shard = %s AND bucket = %s AND day = %s AND level = %s",
        where,
    ).fetchall()
    looked_at = _find_misplaced_rows(rows, {series: policy.points for series, policy in known.items()})
    written, change = 0, CountChange(connection, place.shard)
    for number, keep, seq_from, seq_to, payload in connection.execute(
        "SELECT id, keep, seq_from, seq_to, payload FROM metrics_block WHERE shard = %s AND id = ANY(%s)",
        (place.shard, looked_at),
        binary=True,
    ).fetchall():
        try:
            parts: list[Columns] = decode(payload)
        except DamagedPayload:
            log.error("merged block %s is damaged: it stays as it is", number)
            continue
        if all(known.get(series, DEFAULT_POLICY).points == keep for part in parts for series in part.ids.tolist()):
            continue
        connection.execute("DELETE FROM metrics_block WHERE shard = %s AND id = %s", (place.shard, number))
        change.add_bytes(place.bucket, -len(payload))
        for part in parts:
            insert_day_blocks(connection, part, MergeRun(place.shard, DAY_LEVEL, seq_from, seq_to), known, change)
        written += 1
    change.apply()
    return written


def _regroup_rollups(connection: Connection, place: BucketDay, known: dict[int, RetentionPolicy]) -> int:
    written = 0
    for resolution in RESOLUTIONS:
        rows = connection.execute(
            "SELECT id, keep, series_from, series_to FROM metrics_rollup"
            " WHERE shard = %s AND bucket = %s AND day = %s AND resolution = %s",
            (place.shard, place.bucket, place.day, resolution),
        ).fetchall()
        days = {series: rollup_retention_days(policy, resolution) for series, policy in known.items()}
        for number, keep, payload in connection.execute(
            "SELECT id, keep, payload FROM metrics_rollup WHERE shard = %s AND id = ANY(%s)",
            (place.shard, _find_misplaced_rows(rows, days)),
            binary=True,
        ).fetchall():
            held = decode_rollup(payload, resolution * SECOND)
            if any(
                rollup_retention_days(known.get(series, DEFAULT_POLICY), resolution) != keep
                for series in held.ids.tolist()
            ):
                delete_rows(connection, place.shard, [number])
                insert_rollup(connection, place, resolution, held, known)
                written += 1
    return written
