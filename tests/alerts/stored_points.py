"""Store points through the site's writer, for tests that read history."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from metrics.models import Series
from metrics.storage.connection import connect
from metrics.storage.format.codec import Kind
from metrics.storage.merge import schedule
from metrics.storage.series_registry import current_registry
from metrics.storage.units import to_microseconds
from metrics.storage.write.group_commit import JournalEntry, writer
from metrics.storage.write.incoming import IncomingPoints

START = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=3)


def time_at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def store_points(
    device_id: str, metric: str, seconds: Sequence[float], values: Sequence[Any], kind: Kind = Kind.NUMERIC
) -> int:
    """Store points of one series, times in seconds after START. Returns the series id."""
    current_registry().create_missing([(device_id, metric, kind)])
    series_id = Series.objects.get(device__device_id=device_id, metric_name=metric, kind=kind).pk
    timestamps = to_microseconds(START) + (np.array(seconds, np.float64) * 1_000_000).astype(np.int64)
    column = np.array(values, np.float64 if kind.is_number else object)
    ids = np.full(len(timestamps), series_id)
    writer().submit([IncomingPoints(ids, timestamps, column)], JournalEntry("test", time.time(), len(timestamps)))
    return series_id


def merge_all() -> None:
    with connect() as connection:
        schedule.merge_commits(connection, force=True)
        schedule.merge_days(connection, force=True)
