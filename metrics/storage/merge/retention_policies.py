"""Retention policies: days that points and rollups of a metric are kept."""

from collections.abc import Iterable
from typing import NamedTuple

from metrics.storage.connection import Connection

DEFAULT_RETENTION_DAYS = 90
DEFAULT_ROLLUP_5M_DAYS = 180
DEFAULT_ROLLUP_1H_DAYS = 1825
_OF_RANGE = """
SELECT s.id, m.retention_days, m.rollup_5m_days, m.rollup_1h_days
FROM metrics_series s LEFT JOIN metrics_metricdefinition m ON m.name = s.metric_name WHERE s.id >= %s AND s.id < %s
"""


class RetentionPolicy(NamedTuple):
    """Retention in days of the points, five-minute and hourly rollups of a series."""

    points: int = DEFAULT_RETENTION_DAYS
    minutes: int = DEFAULT_ROLLUP_5M_DAYS
    hours: int = DEFAULT_ROLLUP_1H_DAYS


DEFAULT_POLICY = RetentionPolicy()
DAY_SECONDS = 86_400

_OF_SERIES = """
SELECT s.id, m.retention_days, m.rollup_5m_days, m.rollup_1h_days
FROM metrics_series s JOIN metrics_metricdefinition m ON m.name = s.metric_name WHERE s.id = ANY(%s)
"""


# A policy of zeros marks a metric whose rows follow several policies, until they are regrouped.
_MARK_MIXED = """
INSERT INTO metrics_groupedby (metric_name, points, minutes, hours)
SELECT DISTINCT s.metric_name, 0, 0, 0 FROM metrics_series s
LEFT JOIN metrics_metricdefinition m ON m.name = s.metric_name
LEFT JOIN metrics_groupedby g ON g.metric_name = s.metric_name
WHERE s.id = ANY(%(series)s) AND g.points IS DISTINCT FROM 0
  AND (coalesce(m.retention_days, %(points)s), coalesce(m.rollup_5m_days, %(minutes)s),
       coalesce(m.rollup_1h_days, %(hours)s))
   <> (coalesce(g.points, %(points)s), coalesce(g.minutes, %(minutes)s), coalesce(g.hours, %(hours)s))
ORDER BY s.metric_name
ON CONFLICT (metric_name) DO UPDATE SET points = 0, minutes = 0, hours = 0
"""


def read_policies(connection: Connection, series: Iterable[int]) -> dict[int, RetentionPolicy]:
    """Return the policies of those of these series that have a definition; all others have DEFAULT_POLICY.

    For writers of rows: a metric whose rows follow another policy is marked as mixed. Otherwise a policy that changed
    and changed back would leave misplaced rows that are never regrouped.
    """
    ids = list(series)
    connection.execute(_MARK_MIXED, DEFAULT_POLICY._asdict() | {"series": ids})
    return {row[0]: RetentionPolicy(*row[1:]) for row in connection.execute(_OF_SERIES, (ids,))}


def read_policies_between(connection: Connection, first: int, last: int) -> dict[int, RetentionPolicy]:
    """Return the policies of all existing series from `first` to before `last`."""
    rows = connection.execute(_OF_RANGE, (first, last))
    return {row[0]: DEFAULT_POLICY if row[1] is None else RetentionPolicy(*row[1:]) for row in rows}


def is_day_expired(day: int, retention: int, now: float) -> bool:
    """Return whether a day (since 1970) is past its retention (days) at a time (seconds since 1970)."""
    return (day + 1 + retention) * DAY_SECONDS <= now
