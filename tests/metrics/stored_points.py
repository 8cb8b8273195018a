"""Reading of stored points without the limits of queries."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from metrics.query.latest import SELECT_SERIES
from metrics.query.raw_points import RawPoints, combine_series
from metrics.storage.connection import read_connection
from metrics.storage.format.codec import Columns, Kind, concatenate
from metrics.storage.format.layout import select_series
from metrics.storage.read.plan import plan_read, snapshot
from metrics.storage.read.scan import read_points
from metrics.storage.units import to_microseconds


def read_stored_parts(series: Sequence[int], low: int, high: int, damaged: list[str] | None = None) -> list[Columns]:
    """Read the points of these series from `low` to before `high` (µs); damaged blocks are named in `damaged`."""
    with snapshot() as connection:
        plan = plan_read(connection, np.array(sorted(series), np.int64), low, high)
        parts = list(read_points(connection, plan))
    if damaged is not None:
        damaged += plan.damaged
    return parts


def read_stored_values(device_id: str, metric_name: str, start: datetime, end: datetime) -> RawPoints:
    """Read a metric of a device from `start` to before `end`."""
    parameters = {"devices": [device_id], "metrics": [metric_name], "groups": None}
    with read_connection() as connection:
        kinds = {row[0]: Kind(row[1]) for row in connection.execute(SELECT_SERIES, parameters)}
    parts = read_stored_parts(list(kinds), to_microseconds(start), to_microseconds(end)) if kinds else []
    columns: dict[int, list[Columns]] = {}
    for part in parts:
        for number in part.ids.tolist():
            columns.setdefault(number, []).append(select_series(part, np.array([number])))
    return combine_series({number: concatenate(series_parts) for number, series_parts in columns.items()}, kinds)
