"""Insertion of merged blocks."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns, encode
from metrics.storage.format.layout import DAY_LEVEL, drop_removed, select_points, split_by_day, split_rows
from metrics.storage.merge.point_counts import CountChange
from metrics.storage.merge.retention_policies import DEFAULT_POLICY, RetentionPolicy

_INSERT = """
INSERT INTO metrics_block (shard, level, bucket, day, seq_from, seq_to, series_from, series_to, time_from, time_to,
    points, keep, made_at, payload) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, now(), %s)
"""


@dataclass(frozen=True, slots=True)
class MergeRun:
    """The metadata that all rows of one merge share."""

    shard: int
    level: int
    seq_from: int
    seq_to: int


def insert_run(
    connection: Connection, columns: Columns, run: MergeRun, change: CountChange, keep: int | None = None
) -> None:
    """Insert points as rows of their buckets and days. `keep`: their retention in days, if it is the same for all.

    Adds the bytes to `change`; the caller adds the points, since only it knows whether they are new.
    """
    with connection.cursor() as cursor:
        cursor.executemany(_INSERT, _block_rows(columns, run, change, keep))


def _block_rows(columns: Columns, run: MergeRun, change: CountChange, keep: int | None) -> Iterator[tuple[object, ...]]:
    for bucket, day, day_columns in split_by_day(columns):
        for row in split_rows(day_columns):
            payload = encode([row], dense=run.level == DAY_LEVEL)
            change.add_bytes(bucket, len(payload))
            yield (
                *(run.shard, run.level, bucket, day, run.seq_from, run.seq_to),
                *(int(row.ids[0]), int(row.ids[-1]), int(row.times.min()), int(row.times.max())),
                *(len(drop_removed(row)), keep, payload),
            )


def insert_day_blocks(
    connection: Connection,
    columns: Columns,
    run: MergeRun,
    policies: Mapping[int, RetentionPolicy],
    change: CountChange,
) -> None:
    """Insert the points of a finished day, one set of rows per retention."""
    days = np.array([policies.get(series, DEFAULT_POLICY).points for series in columns.ids.tolist()])
    for keep in np.unique(days).tolist():
        mask = days == keep
        part = columns if mask.all() else select_points(columns, np.repeat(mask, np.diff(columns.offsets)))
        insert_run(connection, part, run, change, keep)
