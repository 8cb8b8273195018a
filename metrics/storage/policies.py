"""How long what is kept: points as they were sent, and their rollups, in days, by metric."""

from collections.abc import Iterable
from typing import NamedTuple

from metrics.storage.connection import Connection

DEFAULT_RETENTION_DAYS = 90
DEFAULT_MINUTES_DAYS = 180
DEFAULT_HOUR_DAYS = 1825
_OF_RANGE = """
SELECT s.id, m.retention_days, m.rollup_5m_days, m.rollup_1h_days
FROM metrics_series s LEFT JOIN metrics_metricdefinition m ON m.name = s.metric_name WHERE s.id >= %s AND s.id < %s
"""


class Policy(NamedTuple):
    """Days that points, five-minute and one-hour rollups of a series are kept."""

    points: int = DEFAULT_RETENTION_DAYS
    minutes: int = DEFAULT_MINUTES_DAYS
    hours: int = DEFAULT_HOUR_DAYS


DEFAULT = Policy()
DAY_SECONDS = 86_400

_OF_SERIES = """
SELECT s.id, m.retention_days, m.rollup_5m_days, m.rollup_1h_days
FROM metrics_series s JOIN metrics_metricdefinition m ON m.name = s.metric_name WHERE s.id = ANY(%s)
"""


def policies(connection: Connection, series: Iterable[int]) -> dict[int, Policy]:
    """The policies of those of these series that have one of their own; all others have DEFAULT."""
    return {row[0]: Policy(*row[1:]) for row in connection.execute(_OF_SERIES, (list(series),))}


def bucket_policies(connection: Connection, first: int, last: int) -> dict[int, Policy]:
    """The policies of all series that there are from one number to before another."""
    rows = connection.execute(_OF_RANGE, (first, last))
    return {row[0]: DEFAULT if row[1] is None else Policy(*row[1:]) for row in rows}


def is_over(day: int, kept: int, now: float) -> bool:
    """Whether all of a day (since 1970) is older than it is kept (in days), at a time (seconds since 1970)."""
    return (day + 1 + kept) * DAY_SECONDS <= now
