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
from metrics.storage.format.layout import BUCKET, SETTLED
from metrics.storage.format.rollup_codec import decode_summary
from metrics.storage.locks import lock_unit
from metrics.storage.merge.insert_blocks import Run, insert_settled
from metrics.storage.merge.point_counts import Change
from metrics.storage.merge.retention_policies import DEFAULT, Policy, bucket_policies
from metrics.storage.merge.rollups import RESOLUTIONS, Place, delete, insert, kept_days
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
    return _buckets_of(connection, list(_changed(connection)))


def changed_policies(connection: Connection) -> list[str]:
    """Metrics whose rows follow another policy than theirs."""
    return sorted(_changed(connection))


def regroup(connection: Connection, budget: float = 25.0) -> int:
    """Bring rows in line with the policies, for about `budget` seconds; returns the rows written anew."""
    started, written, done = time.monotonic(), 0, True
    changed = _changed(connection)
    wanted = {"shards": list(shards.every()), "buckets": _buckets_of(connection, list(changed))}
    for place in sorted(Place(*row) for row in connection.execute(_DAYS_OF, wanted).fetchall()):
        if written and time.monotonic() - started > budget:  # every run gets further than the one before
            return written
        with connection.transaction():
            if not lock_unit(connection, place.bucket, place.day):  # a merge that may have read the old policy
                done = False
                continue
            known = bucket_policies(connection, place.bucket * BUCKET, (place.bucket + 1) * BUCKET)
            written += _regroup_points(connection, place, known) + _regroup_rollups(connection, place, known)
    if done:
        _note(connection, changed)
    return written


def _changed(connection: Connection) -> dict[str, Policy | None]:
    """Metrics whose rows follow another policy than theirs; None: the definition is gone."""
    rows = connection.execute(_CHANGED, DEFAULT._asdict())
    return {name: None if gone else Policy(*days) for name, *days, gone in rows}


def _buckets_of(connection: Connection, metrics: list[str]) -> list[int]:
    if not metrics:
        return []
    found = connection.execute(
        "SELECT DISTINCT id / %s FROM metrics_series WHERE metric_name = ANY(%s)", (BUCKET, metrics)
    )
    return [bucket for (bucket,) in found]


def _note(connection: Connection, changed: dict[str, Policy | None]) -> None:
    with connection.transaction():
        for name, policy in changed.items():
            connection.execute("DELETE FROM metrics_groupedby WHERE metric_name = %s", (name,))
            if policy is not None:
                connection.execute("INSERT INTO metrics_groupedby VALUES (%s, %s, %s, %s)", (name, *policy))


def _misplaced(rows: list[tuple[int, int, int, int]], days: dict[int, int]) -> list[int]:
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


def _regroup_points(connection: Connection, place: Place, known: dict[int, Policy]) -> int:
    where = (place.shard, place.bucket, place.day, SETTLED)
    rows = connection.execute(
        "SELECT id, keep, series_from, series_to FROM metrics_block"
        " WHERE shard = %s AND bucket = %s AND day = %s AND level = %s",
        where,
    ).fetchall()
    looked_at = _misplaced(rows, {series: policy.points for series, policy in known.items()})
    written, change = 0, Change(connection, place.shard)
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
        if all(known.get(series, DEFAULT).points == keep for part in parts for series in part.ids.tolist()):
            continue
        connection.execute("DELETE FROM metrics_block WHERE shard = %s AND id = %s", (place.shard, number))
        change.resized(place.bucket, -len(payload))
        for part in parts:
            insert_settled(connection, part, Run(place.shard, SETTLED, seq_from, seq_to), known, change)
        written += 1
    change.apply()
    return written


def _regroup_rollups(connection: Connection, place: Place, known: dict[int, Policy]) -> int:
    written = 0
    for resolution in RESOLUTIONS:
        rows = connection.execute(
            "SELECT id, keep, series_from, series_to FROM metrics_rollup"
            " WHERE shard = %s AND bucket = %s AND day = %s AND resolution = %s",
            (place.shard, place.bucket, place.day, resolution),
        ).fetchall()
        days = {series: kept_days(policy, resolution) for series, policy in known.items()}
        for number, keep, payload in connection.execute(
            "SELECT id, keep, payload FROM metrics_rollup WHERE shard = %s AND id = ANY(%s)",
            (place.shard, _misplaced(rows, days)),
            binary=True,
        ).fetchall():
            held = decode_summary(payload, resolution * SECOND)
            if any(kept_days(known.get(series, DEFAULT), resolution) != keep for series in held.ids.tolist()):
                delete(connection, place.shard, [number])
                insert(connection, place, resolution, held, known)
                written += 1
    return written
