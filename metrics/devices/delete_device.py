"""Delete a device with all its points.

One transaction deletes its rows, those of its series and the keys bound to it; from then on no commit accepts a point
of its series (metrics.storage.write.commit). Workers then delete its points from the stored days, one day of a bucket
per transaction, which also saves the progress in the row of the deletion. So a killed worker has done a day or not,
and any number of workers can run. A device that sends again is a new one, whose series have other ids.

queued   until the last commits that may hold its points are merged
running  bucket by bucket, day by day; deletions at the same bucket and day, such as those of many devices, run together
ending   until those commits, which followers can read for a while after the merge, are deleted
done
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from django.db import connection, transaction
from django.db.models import QuerySet

from metrics.models import Deletion, DeletionStatus, Device, IngestedBatch, Revision
from metrics.storage import shards
from metrics.storage.connection import Connection
from metrics.storage.format.codec import Ints
from metrics.storage.format.layout import SERIES_PER_BUCKET
from metrics.storage.locks import lock_day
from metrics.storage.merge import damaged_blocks, delete_series
from metrics.storage.merge.rollups import BucketDay
from metrics.storage.read import latest
from metrics.storage.shards import shard_of
from rest.caller import Caller
from rest.errors import NotFound

MAX_CONCURRENT_DELETIONS = 500  # that one transaction continues
_UNFINISHED = [DeletionStatus.QUEUED, DeletionStatus.RUNNING, DeletionStatus.ENDING]
_FIRST_DAY, _LAST_DAY = -(2**31), 2**31 - 1

_CLAIM = """
WITH oldest AS (
    SELECT bucket, day FROM metrics_deletion WHERE status = 'running' ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
)
SELECT d.id, d.series, d.bucket, d.day FROM metrics_deletion d
JOIN oldest o ON (d.bucket, d.day) IS NOT DISTINCT FROM (o.bucket, o.day)
WHERE d.status = 'running' ORDER BY d.id LIMIT %s FOR UPDATE OF d SKIP LOCKED
"""
_SAVE_PROGRESS = """
UPDATE metrics_deletion SET bucket = %s, day = %s, progress = %s, points = points + %s WHERE id = %s
"""
_BEGIN = "UPDATE metrics_deletion SET status = 'running', started_at = now() WHERE id = ANY(%s) AND status = 'queued'"
_END = "UPDATE metrics_deletion SET status = 'ending', progress = 1 WHERE id = ANY(%s)"
_FINISH = """
UPDATE metrics_deletion SET status = 'done', finished_at = now(), incomplete = %s::jsonb
WHERE id = %s AND status = 'ending'
"""
_WAITING = "SELECT id, heads, series FROM metrics_deletion WHERE status = %s ORDER BY id LIMIT 1000"
_MERGED = "SELECT shard, seq FROM metrics_merged"
_OLDEST_YOUNG = "SELECT shard, min(seq) FROM metrics_young GROUP BY shard"


@transaction.atomic
def delete_device(device_id: str, by: Caller) -> Deletion:
    """Delete a device that is visible to the caller; return a deletion in progress if there is one.

    Raises NotFound.
    """
    device = Device.objects.visible_to(by).select_for_update(of=("self",)).filter(device_id=device_id).first()
    if device is None:
        unfinished = visible_deletions(by).filter(device_id=device_id, status__in=_UNFINISHED).first()
        if unfinished is None:
            raise NotFound(f"device {device_id} does not exist")
        return unfinished
    series = sorted(device.series.values_list("pk", flat=True))
    batches = IngestedBatch.objects.filter(device_id=device_id)
    batches.delete()
    device.delete()
    with connection.cursor() as cursor:
        cursor.execute(
            "SET CONSTRAINTS ALL IMMEDIATE"
        )  # before the shards are locked: commits would wait for the checks
    heads = _reject_commits_before(Revision.move())
    batches.delete()  # those of commits in between; later commits find their series deleted
    return Deletion.objects.create(device_id=device_id, requested_by=by.name, series=series, heads=heads)


def visible_deletions(by: Caller) -> QuerySet[Deletion]:
    """Return all deletions; to a caller that sees only some devices, those that it requested."""
    if by.sees_all:
        return Deletion.objects.all()
    return Deletion.objects.filter(requested_by=by.name)


def _reject_commits_before(revision: int) -> dict[int, int]:
    """Make commits reject series that were looked up before a revision; return the last commit of each shard."""
    heads = {}
    with connection.cursor() as cursor:
        for shard in shards.all_shards():  # in ascending order, as writers lock them
            cursor.execute(
                "UPDATE metrics_head SET deleted_at_revision = %s WHERE shard = %s RETURNING seq", (revision, shard)
            )
            [heads[shard]] = cursor.fetchone()
    return heads


def run_deletions(connection: Connection, budget: float = 25.0) -> int:
    """Continue all deletions for about `budget` seconds; return the number of steps."""
    started, steps = time.monotonic(), 0
    _begin(connection)
    while time.monotonic() - started < budget and _step(connection):
        steps += 1
    _finish(connection)
    return steps


def _begin(connection: Connection) -> None:
    """Start the deletions whose last commits are merged."""
    waiting = connection.execute(_WAITING, (DeletionStatus.QUEUED,)).fetchall()
    if waiting:
        merged: dict[int, int] = dict(connection.execute(_MERGED).fetchall())
        ready = [number for number, heads, _ in waiting if all(merged[int(shard)] >= heads[shard] for shard in heads)]
        connection.execute(_BEGIN, (ready,))


class _ClaimedDeletion(NamedTuple):
    """A deletion that is locked until the transaction ends."""

    id: int
    series: Ints


def _step(connection: Connection) -> bool:
    """Delete the next day of the oldest deletion and of those at the same day; return False if nothing can be done."""
    with connection.transaction():
        rows = connection.execute(_CLAIM, (MAX_CONCURRENT_DELETIONS,)).fetchall()
        if not rows:
            return False
        claimed = [_ClaimedDeletion(number, np.array(series, np.int64)) for number, series, _, _ in rows]
        _, _, bucket, day = rows[0]
        series = np.unique(np.concatenate([deletion.series for deletion in claimed]))
        buckets = np.unique(series // SERIES_PER_BUCKET).tolist()
        if bucket is None or day == _LAST_DAY:
            bucket, day = next((number for number in buckets if bucket is None or number > bucket), None), _FIRST_DAY
        if bucket is None:
            connection.execute(_END, ([deletion.id for deletion in claimed],))
            return True
        in_bucket = series[series // SERIES_PER_BUCKET == bucket]
        bucket_day = BucketDay(shard_of(int(in_bucket[0])), bucket, day)
        deleted = delete_series.NO_SERIES
        if (next_day := delete_series.find_next_day(connection, bucket_day, in_bucket)) is None:
            latest.delete_latest(connection, bucket_day.shard, bucket, in_bucket)
        elif not lock_day(connection, bucket, next_day):  # a merge has the lock: retry later
            return False
        else:
            deleted = delete_series.delete_from_day(connection, bucket_day._replace(day=next_day), in_bucket)
        progress = (buckets.index(bucket) + (next_day is None)) / len(buckets)
        _save_progress(connection, claimed, (bucket, _LAST_DAY if next_day is None else next_day, progress), deleted)
        return True


def _save_progress(
    connection: Connection, claimed: Sequence[_ClaimedDeletion], position: tuple[int, int, float], deleted: Ints
) -> None:
    """Save the position, and how many points of each deletion were deleted."""
    ids, counts = np.unique(deleted, return_counts=True)
    with connection.cursor() as cursor:
        rows = [(*position, int(counts[np.isin(ids, row.series)].sum()), row.id) for row in claimed]
        cursor.executemany(_SAVE_PROGRESS, rows)


def _finish(connection: Connection) -> None:
    """Finish the deletions whose last commits are no longer read."""
    ending = connection.execute(_WAITING, (DeletionStatus.ENDING,)).fetchall()
    if not ending:
        return
    oldest: dict[int, int] = dict(connection.execute(_OLDEST_YOUNG).fetchall())
    for number, heads, series in ending:
        if all(oldest.get(int(shard), seq + 1) > seq for shard, seq in heads.items()):
            names = damaged_blocks.damaged_of_series(connection, series) if series else []
            connection.execute(_FINISH, (msgspec.json.encode(names).decode(), number))
