"""Shards: the number of commit streams, 1 unless TELEMETRY_SHARDS was set at the first start.

A bucket belongs to one shard, so the commit order and the merges of a series are within one shard. The database has
one row of metrics_head per shard; the setting must agree with it, or points would be searched in the wrong shard.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from django.conf import settings

from metrics.storage.connection import Connection
from metrics.storage.errors import ShardCountMismatch
from metrics.storage.format.codec import Columns, Ints
from metrics.storage.format.layout import SERIES_PER_BUCKET, bucket_of, select_points

BlockId = tuple[int, int]  # shard; sequence number of a commit or id of a merged block


def count() -> int:
    """Return the number of shards."""
    return settings.SHARDS


def all_shards() -> range:
    return range(settings.SHARDS)


def shard_of(series: int) -> int:
    return bucket_of(series) % settings.SHARDS


def shards_of_series(series: Ints) -> Ints:
    """Return the shard of each series."""
    return series // SERIES_PER_BUCKET % settings.SHARDS


def split_by_shard(parts: list[Columns]) -> Iterator[tuple[int, list[Columns]]]:
    """Split the parts of a commit by shard, in ascending order of shard."""
    touched = sorted({shard for part in parts for shard in np.unique(shards_of_series(part.ids)).tolist()})
    if len(touched) == 1:
        yield touched[0], parts
        return
    for shard in touched:
        yield shard, [mine for part in parts if (mine := _select_shard(part, shard)) is not None]


def _select_shard(part: Columns, shard: int) -> Columns | None:
    mask = shards_of_series(part.ids) == shard
    if not mask.any():
        return None
    return part if mask.all() else select_points(part, np.repeat(mask, np.diff(part.offsets)))


def mismatch_reason(stored_count: int) -> str:
    """Describe a difference between TELEMETRY_SHARDS and the database; empty if they agree."""
    if stored_count == settings.SHARDS:
        return ""
    return (
        f"this database was created with TELEMETRY_SHARDS={stored_count}, which cannot be changed to {settings.SHARDS}"
    )


def verify_shard_count(connection: Connection) -> None:
    """Raise ShardCountMismatch if the database has another number of shards than the setting."""
    row = connection.execute("SELECT count(*) FROM metrics_head").fetchone()
    if row and (reason := mismatch_reason(row[0])):
        raise ShardCountMismatch(reason)


def create_shard_rows(cursor: Any) -> None:
    """Create the head row of each shard. Raises ShardCountMismatch if data exists with another count."""
    cursor.execute("SELECT count(*), coalesce(max(seq), 0) FROM metrics_head")
    stored_count, seq = cursor.fetchone()
    if seq and (reason := mismatch_reason(stored_count)):
        raise ShardCountMismatch(reason)
    for table in ("metrics_head", "metrics_merged"):
        cursor.execute(f"DELETE FROM {table} WHERE shard >= %s", (settings.SHARDS,))  # noqa: S608 - constant table names
    cursor.execute(
        "INSERT INTO metrics_head (shard, seq, checksum) SELECT shard, 0, '' FROM generate_series(0, %s) shard"
        " ON CONFLICT DO NOTHING",
        (settings.SHARDS - 1,),
    )
    cursor.execute(
        "INSERT INTO metrics_merged (shard, seq) SELECT shard, 0 FROM generate_series(0, %s) shard"
        " ON CONFLICT DO NOTHING",
        (settings.SHARDS - 1,),
    )
