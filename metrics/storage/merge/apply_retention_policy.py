"""Regrouping of stored days after a retention policy changed: into rows of series with equal retention.

The policy that the rows of a metric follow is stored (`GroupedBy`) apart from the definition; where the two differ
the rows are regrouped, one bucket and day at a time, each in a transaction under the lock of the day. The new policy
is recorded only when every day is done, so a killed worker leaves nothing but work to repeat.
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
    """Return the buckets with rows that do not follow the current policy."""
    return _buckets_of(connection, list(_read_changed_policies(connection)))


def changed_policies(connection: Connection) -> list[str]:
    """Return the metrics whose rows do not follow their policy."""
    return sorted(_read_changed_policies(connection))


def regroup_rows(connection: Connection, budget: float = 25.0) -> int:
    """Regroup rows by the current policies for about `budget` seconds; return how many rows were rewritten."""
    started, written, done = time.monotonic(), 0, True
    changed = _read_changed_policies(connection)
    parameters = {"shards": list(shards.all_shards()), "buckets": _buckets_of(connection, list(changed))}
    for bucket_day in sorted(BucketDay(*row) for row in connection.execute(_DAYS_OF, parameters).fetchall()):
        if written and time.monotonic() - started > budget:  # at least one day per run
            return written
        with connection.transaction():
            if not lock_day(connection, bucket_day.bucket, bucket_day.day):  # a merge that may use the old policy
                done = False
                continue
            policies = read_policies_between(
                connection, bucket_day.bucket * SERIES_PER_BUCKET, (bucket_day.bucket + 1) * SERIES_PER_BUCKET
            )
            written += _regroup_points(connection, bucket_day, policies) + _regroup_rollups(
                connection, bucket_day, policies
            )
    if done:
        _store_applied_policies(connection, changed)
    return written


def _read_changed_policies(connection: Connection) -> dict[str, RetentionPolicy | None]:
    """Return the new policy of metrics whose rows follow another; None if the definition was deleted."""
    rows = connection.execute(_CHANGED, DEFAULT_POLICY._asdict())
    return {name: None if is_deleted else RetentionPolicy(*days) for name, *days, is_deleted in rows}


def _buckets_of(connection: Connection, metrics: list[str]) -> list[int]:
    if not metrics:
        return []
    rows = connection.execute(
        "SELECT DISTINCT id / %s FROM metrics_series WHERE metric_name = ANY(%s)", (SERIES_PER_BUCKET, metrics)
    )
    return [bucket for (bucket,) in rows]


def _store_applied_policies(connection: Connection, changed: dict[str, RetentionPolicy | None]) -> None:
    with connection.transaction():
        for name, policy in changed.items():
            connection.execute("DELETE FROM metrics_groupedby WHERE metric_name = %s", (name,))
            if policy is not None:
                connection.execute("INSERT INTO metrics_groupedby VALUES (%s, %s, %s, %s)", (name, *policy))


def _find_misplaced_rows(rows: list[tuple[int, int, int, int]], days_by_series: dict[int, int]) -> list[int]:
    """Return the rows (id, keep, series from, series to) that may contain a series with another retention.

    The payloads are not read, so that correct rows cost almost nothing.
    """
    series = np.array(sorted(days_by_series), np.int64)
    days = np.array([days_by_series[number] for number in sorted(days_by_series)], np.int64)
    misplaced = []
    for number, keep, first, last in rows:
        low, high = series.searchsorted(first), series.searchsorted(last, "right")
        if low == high or (days[low:high] != keep).any():
            misplaced.append(number)
    return misplaced


def _regroup_points(connection: Connection, bucket_day: BucketDay, policies: dict[int, RetentionPolicy]) -> int:
    parameters = (bucket_day.shard, bucket_day.bucket, bucket_day.day, DAY_LEVEL)
    rows = connection.execute(
        "SELECT id, keep, series_from, series_to FROM metrics_block"
        " WHERE shard = %s AND bucket = %s AND day = %s AND level = %s",
        parameters,
    ).fetchall()
    candidates = _find_misplaced_rows(rows, {series: policy.points for series, policy in policies.items()})
    written, change = 0, CountChange(connection, bucket_day.shard)
    for number, keep, seq_from, seq_to, payload in connection.execute(
        "SELECT id, keep, seq_from, seq_to, payload FROM metrics_block WHERE shard = %s AND id = ANY(%s)",
        (bucket_day.shard, candidates),
        binary=True,
    ).fetchall():
        try:
            parts: list[Columns] = decode(payload)
        except DamagedPayload:
            log.error("merged block %s is damaged and was not regrouped", number)
            continue
        if all(policies.get(series, DEFAULT_POLICY).points == keep for part in parts for series in part.ids.tolist()):
            continue
        connection.execute("DELETE FROM metrics_block WHERE shard = %s AND id = %s", (bucket_day.shard, number))
        change.add_bytes(bucket_day.bucket, -len(payload))
        for part in parts:
            insert_day_blocks(
                connection, part, MergeRun(bucket_day.shard, DAY_LEVEL, seq_from, seq_to), policies, change
            )
        written += 1
    change.apply()
    return written


def _regroup_rollups(connection: Connection, bucket_day: BucketDay, policies: dict[int, RetentionPolicy]) -> int:
    written = 0
    for resolution in RESOLUTIONS:
        rows = connection.execute(
            "SELECT id, keep, series_from, series_to FROM metrics_rollup"
            " WHERE shard = %s AND bucket = %s AND day = %s AND resolution = %s",
            (bucket_day.shard, bucket_day.bucket, bucket_day.day, resolution),
        ).fetchall()
        days = {series: rollup_retention_days(policy, resolution) for series, policy in policies.items()}
        for number, keep, payload in connection.execute(
            "SELECT id, keep, payload FROM metrics_rollup WHERE shard = %s AND id = ANY(%s)",
            (bucket_day.shard, _find_misplaced_rows(rows, days)),
            binary=True,
        ).fetchall():
            rollup = decode_rollup(payload, resolution * SECOND)
            if any(
                rollup_retention_days(policies.get(series, DEFAULT_POLICY), resolution) != keep
                for series in rollup.ids.tolist()
            ):
                delete_rows(connection, bucket_day.shard, [number])
                insert_rollup(connection, bucket_day, resolution, rollup, policies)
                written += 1
    return written
