"""Into how many streams an installation's points go: 1, unless TELEMETRY_SHARDS said otherwise at its first start.

A bucket lives in one shard, so whatever is about one series (its order of writes, its merges) is about one shard.
The rows of metrics_head are what the database holds; the setting must agree with them, or points would be looked for
where they are not.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from django.conf import settings

from metrics.storage.connection import Connection
from metrics.storage.errors import ShardCountMismatch
from metrics.storage.format.codec import Columns, Ints
from metrics.storage.format.layout import SERIES_PER_BUCKET, bucket_of, select_points

BlockId = tuple[int, int]  # shard, and the commit's or the merged block's number in it


def count() -> int:
    """The number of shards of this installation."""
    return settings.SHARDS


def all_shards() -> range:
    return range(settings.SHARDS)


def shard_of(series: int) -> int:
    return bucket_of(series) % settings.SHARDS


def shards_of_series(series: Ints) -> Ints:
    """The shard of each series."""
    return series // SERIES_PER_BUCKET % settings.SHARDS


def split_by_shard(parts: list[Columns]) -> Iterator[tuple[int, list[Columns]]]:
    """The parts of a commit by shard, in ascending order of shard."""
    touched = sorted({shard for part in parts for shard in np.unique(shards_of_series(part.ids)).tolist()})
    if len(touched) == 1:
        yield touched[0], parts
        return
    for shard in touched:
        yield shard, [mine for part in parts if (mine := _select_shard(part, shard)) is not None]


def _select_shard(part: Columns, shard: int) -> Columns | None:
    here = shards_of_series(part.ids) == shard
    if not here.any():
        return None
    return part if here.all() else select_points(part, np.repeat(here, np.diff(part.offsets)))


def mismatch_reason(held: int) -> str:
    """What is wrong where the database holds another number of shards; empty where nothing is."""
    if held == settings.SHARDS:
        return ""
    return f"this database was begun with TELEMETRY_SHARDS={held}, which cannot become {settings.SHARDS}"


def verify_shard_count(connection: Connection) -> None:
    """Raises ShardCountMismatch where the database holds another number of shards than the setting says."""
    row = connection.execute("SELECT count(*) FROM metrics_head").fetchone()
    if row and (reason := mismatch_reason(row[0])):
        raise ShardCountMismatch(reason)


def create_shard_rows(cursor: Any) -> None:
    """Create the head row of each shard. Raises ShardCountMismatch if data exists with another count."""
    cursor.execute("SELECT count(*), coalesce(max(seq), 0) FROM metrics_head")
    held, seq = cursor.fetchone()
    if seq and (reason := mismatch_reason(held)):
        raise ShardCountMismatch(reason)
    for table in ("metrics_head", "metrics_merged"):
        cursor.execute(f"DELETE FROM {table} WHERE shard >= %s", (settings.SHARDS,))  # noqa: S608 - names of ours
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
