"""Batches that were answered before: a retry gets the same response, and a reused id is rejected."""

from datetime import datetime
from typing import Any, NamedTuple

from ingest.wire.batch import Batch, Rejection, RequestRejected
from metrics.storage.connection import read_connection
from metrics.storage.merge.retention import BATCH_ID_RETENTION_DAYS


class BatchIdReused(RequestRejected):
    """The device has used the `batch_id` for other points."""

    def __init__(self, device_id: str, batch_id: str | None, at: datetime) -> None:
        detail = (
            f"{device_id} used {batch_id} for other points at {at:%Y-%m-%dT%H:%M:%SZ};"
            f" send these points with an id that was not used in the last {BATCH_ID_RETENTION_DAYS} days"
        )
        super().__init__(f"batch_id: {detail}", 409, [Rejection(0, "batch_id", detail)])


class StoredBatch(NamedTuple):
    """When a batch was stored, and the response to it."""

    at: datetime
    answer: dict[str, Any]


class _EarlierBatch(NamedTuple):
    at: datetime
    digest: bytes | None  # None: stored by a version without digests
    answer: dict[str, Any]


def find_answer(batch: Batch) -> dict[str, Any] | None:
    """Return the response to the same batch, if it was stored before. Raises BatchIdReused.

    A batch whose id was stored without a digest is stored again, which changes nothing if it is the same.
    """
    if not batch.groups or "\0" in batch.groups[0].device_id:  # the pipeline rejects the name
        return None
    device_id = batch.groups[0].device_id
    earlier = _find_batch(device_id, batch.batch_id)
    if earlier is None or earlier.digest is None:
        return None
    if earlier.digest != batch.digest():
        raise BatchIdReused(device_id, batch.batch_id, earlier.at)
    return earlier.answer


def is_batch_stored(device_id: str, batch_id: str) -> bool:
    """Return whether a batch with this id of this device was stored."""
    return _find_batch(device_id, batch_id) is not None


def read_stored_batch(device_id: str, batch_id: str) -> StoredBatch | None:
    """Return when a batch with this id of this device was stored, and its response; None if it is not known."""
    earlier = _find_batch(device_id, batch_id)
    return None if earlier is None else StoredBatch(earlier.at, earlier.answer)


def _find_batch(device_id: str, batch_id: str | None) -> _EarlierBatch | None:
    with read_connection() as connection:
        row = connection.execute(
            "SELECT at, digest, answer FROM metrics_ingestedbatch WHERE device_id = %s AND batch_id = %s",
            (device_id, batch_id),
        ).fetchone()
    return _EarlierBatch(*row) if row else None
