"""Shards: the number of commit streams, 1 unless TELEMETRY_SHARDS was set at the first start.

A bucket belongs to one shard, so the commit order and the merges of a series are within one shard. The database has
one row of metrics_head per shard; the setting must agree with it, or points would be searched in the wrong shard.

In a cluster a node that fails makes only its own shards unavailable: what covers several shards leaves
unreachable ones out, and tries them again after some seconds.
"""

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import psycopg
from django.conf import settings

from metrics.storage.connection import Connection
from metrics.storage.errors import ShardCountMismatch
from metrics.storage.format.codec import Columns, Ints
from metrics.storage.format.layout import SERIES_PER_BUCKET, bucket_of, select_points

log = logging.getLogger(__name__)

RETRY_UNREACHABLE = 5.0  # seconds
_CONNECTION_ERRORS = ("08", "57P01", "57P03")  # SQLSTATE: also of servers that stop or start
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


# --- unreachable nodes ------------------------------------------------------------------------------

_ResultT = TypeVar("_ResultT")
_unreachable: dict[int, float] = {}  # by shard: when it is tried again, by time.monotonic


def is_node_failure(connection: Connection, error: Exception) -> bool:
    """Return whether a node of a cluster failed and the connection to the database can still be used."""
    return (
        isinstance(error, psycopg.OperationalError)
        and (error.sqlstate or "").startswith(_CONNECTION_ERRORS)
        and not connection.closed
        and connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    )


def unreachable_shards() -> set[int]:
    """Return the shards whose node could not be reached some seconds ago."""
    now = time.monotonic()
    return {shard for shard, retry_at in list(_unreachable.items()) if now < retry_at}


def reachable_shards() -> list[int]:
    """Return all other shards."""
    unreachable = unreachable_shards()
    return [shard for shard in all_shards() if shard not in unreachable]


def clear_unreachable() -> None:
    """Forget which shards could not be reached."""
    _unreachable.clear()


def find_unreachable(connection: Connection) -> set[int]:
    """Try every shard after the failure of a node, and return the unreachable ones. Raises if there are no others."""
    clear_unreachable()
    failure: Exception | None = None
    for shard in all_shards():
        try:
            connection.execute("SELECT 1 FROM metrics_head WHERE shard = %s", (shard,))
        except psycopg.OperationalError as error:
            if not is_node_failure(connection, error):
                raise
            failure = error
            _unreachable[shard] = time.monotonic() + RETRY_UNREACHABLE
    if failure is not None:
        log.warning("the shards %s cannot be reached: %s", sorted(_unreachable), str(failure).split("\n")[0])
        if len(_unreachable) == settings.SHARDS:
            raise failure
    return set(_unreachable)


def read_reachable(connection: Connection, read: Callable[[list[int]], _ResultT]) -> _ResultT:
    """Return what `read` returns for all shards; if a node fails, for those of the other nodes."""
    try:
        return read(reachable_shards())
    except psycopg.OperationalError as error:
        if not is_node_failure(connection, error):
            raise
    find_unreachable(connection)
    return read(reachable_shards())


# --- the number of shards ---------------------------------------------------------------------------


def mismatch_reason(stored_count: int) -> str:
    """Describe a difference between TELEMETRY_SHARDS and the database; empty if they agree."""
    if stored_count == settings.SHARDS:
        return ""
    return (
        f"this database was created with TELEMETRY_SHARDS={stored_count}, which cannot be changed to {settings.SHARDS}"
    )


def verify_shard_count(connection: Connection) -> None:
    """Raise ShardCountMismatch if the database has another number of shards than the setting.

    While a node is unreachable, its shards are not counted.
    """
    try:
        row = connection.execute("SELECT count(*) FROM metrics_head").fetchone()
    except psycopg.OperationalError as error:
        if not is_node_failure(connection, error):
            raise
        find_unreachable(connection)
        return
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
