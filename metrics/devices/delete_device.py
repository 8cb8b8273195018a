"""Deleting a device with all that it ever sent.

At once, in one transaction: its rows and those of its series go, keys that are bound to it go with them, and from then
on no commit accepts a point of its series (metrics.storage.write.commit). Its points are then
taken out of the stored days by whichever worker is free, a bucket's day in each transaction, noted in the row of the
deletion within the same: a killed worker has done a day or has not, and any number of them may work. A device that
sends again is a new one, whose series have other numbers.

queued   until the last commits that may hold its points are merged
running  bucket by bucket, day by day; deletions at the same place, such as those of a fleet, go on together
ending   until those commits, which followers may read for a while after they were merged, are dropped
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

TOGETHER = 500  # deletions that go on together
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
_NOTE = """
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
    """Delete a device that the caller sees. Where that was begun and is not finished, the deletion that was begun.

    Raises NotFound.
    """
    device = Device.objects.visible_to(by).select_for_update(of=("self",)).filter(device_id=device_id).first()
    if device is None:
        begun = deletions(by).filter(device_id=device_id, status__in=_UNFINISHED).first()
        if begun is None:
            raise NotFound(f"{device_id} is not known")
        return begun
    series = sorted(device.series.values_list("pk", flat=True))
    answered = IngestedBatch.objects.filter(device_id=device_id)
    answered.delete()
    device.delete()
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # their checks take time, which commits would have to wait for
    heads = _close(Revision.moved())
    answered.delete()  # of commits in between: all others have waited for this one, or find their series gone
    return Deletion.objects.create(device_id=device_id, requested_by=by.name, series=series, heads=heads)


def deletions(by: Caller) -> QuerySet[Deletion]:
    """The deletions that a caller may hear of: all, or where it sees some devices alone, those that it asked for."""
    if by.groups is None and by.device_id is None:
        return Deletion.objects.all()
    return Deletion.objects.filter(requested_by=by.name)


def _close(revision: int) -> dict[int, int]:
    """From here on commits take only series that were looked up at this revision or later; returns the last before."""
    heads = {}
    with connection.cursor() as cursor:
        for shard in shards.all_shards():  # in ascending order, as writers move them
            cursor.execute(
                "UPDATE metrics_head SET deleted_at_revision = %s WHERE shard = %s RETURNING seq", (revision, shard)
            )
            [heads[shard]] = cursor.fetchone()
    return heads


def work(connection: Connection, budget: float = 25.0) -> int:
    """Go on with the deletions that there are, for about `budget` seconds; returns how many places were seen to."""
    started, steps = time.monotonic(), 0
    _begin(connection)
    while time.monotonic() - started < budget and _step(connection):
        steps += 1
    _finish(connection)
    return steps


def _begin(connection: Connection) -> None:
    """Those whose last commits are merged by now."""
    waiting = connection.execute(_WAITING, (DeletionStatus.QUEUED,)).fetchall()
    if waiting:
        merged: dict[int, int] = dict(connection.execute(_MERGED).fetchall())
        ready = [number for number, heads, _ in waiting if all(merged[int(shard)] >= heads[shard] for shard in heads)]
        connection.execute(_BEGIN, (ready,))


class _Claimed(NamedTuple):
    """A deletion that nobody else moves until the transaction ends."""

    id: int
    series: Ints


def _step(connection: Connection) -> bool:
    """The next place of the oldest deletion and of those beside it; False where there is nothing to do now."""
    with connection.transaction():
        rows = connection.execute(_CLAIM, (TOGETHER,)).fetchall()
        if not rows:
            return False
        claimed = [_Claimed(number, np.array(series, np.int64)) for number, series, _, _ in rows]
        _, _, bucket, day = rows[0]
        series = np.unique(np.concatenate([one.series for one in claimed]))
        buckets = np.unique(series // SERIES_PER_BUCKET).tolist()
        if bucket is None or day == _LAST_DAY:
            bucket, day = next((one for one in buckets if bucket is None or one > bucket), None), _FIRST_DAY
        if bucket is None:
            connection.execute(_END, ([one.id for one in claimed],))
            return True
        there = series[series // SERIES_PER_BUCKET == bucket]
        place = BucketDay(shard_of(int(there[0])), bucket, day)
        gone = delete_series.NO_SERIES
        if (next_day := delete_series.find_next_day(connection, place, there)) is None:
            latest.delete_latest(connection, place.shard, bucket, there)
        elif not lock_day(connection, bucket, next_day):  # somebody merges it: the next time
            return False
        else:
            gone = delete_series.delete_from_day(connection, place._replace(day=next_day), there)
        progress = (buckets.index(bucket) + (next_day is None)) / len(buckets)
        _note(connection, claimed, (bucket, _LAST_DAY if next_day is None else next_day, progress), gone)
        return True


def _note(connection: Connection, claimed: Sequence[_Claimed], place: tuple[int, int, float], gone: Ints) -> None:
    """How far they are, and how many points of each went."""
    ids, counts = np.unique(gone, return_counts=True)
    with connection.cursor() as cursor:
        cursor.executemany(_NOTE, [(*place, int(counts[np.isin(ids, one.series)].sum()), one.id) for one in claimed])


def _finish(connection: Connection) -> None:
    """Those whose last commits nobody reads any more."""
    ending = connection.execute(_WAITING, (DeletionStatus.ENDING,)).fetchall()
    if not ending:
        return
    oldest: dict[int, int] = dict(connection.execute(_OLDEST_YOUNG).fetchall())
    for number, heads, series in ending:
        if all(oldest.get(int(shard), seq + 1) > seq for shard, seq in heads.items()):
            names = damaged_blocks.damaged_of_series(connection, series) if series else []
            connection.execute(_FINISH, (msgspec.json.encode(names).decode(), number))
