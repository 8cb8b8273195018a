"""Replay of rejected points: they are sent through the pipeline again, under the current definitions.

Points keep their original timestamps. Stored points leave the inbox after their commit; a process that is killed in
between leaves points that are replayed again, which changes nothing.
"""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ingest.pipeline import accept
from ingest.rejected.point_packets import RejectedPoint
from ingest.rejected.retention import lock_points, replace_points
from ingest.rejected.write_rows import InboxRow, write_rows
from ingest.wire.batch import Batch, Group, Rejection, RequestRejected
from metrics.storage import series_registry
from metrics.storage.connection import Connection, dedicated_connection
from rest.caller import Caller

MAX_REPLAY_POINTS = 50_000  # of one call
REPLAY_TIMEOUT = 10.0  # seconds of one call
MAX_REPLAY_ERRORS = 20

_ROW = "SELECT sender, device_id, metric_name, reason FROM ingest_rejected WHERE id = %s"
_REDUCE_COUNT = (
    "UPDATE ingest_rejected SET count = greatest(count - %s, 0), detail = coalesce(%s, detail) WHERE id = %s"
)
_DELETE_EMPTY = """
DELETE FROM ingest_rejected r WHERE id = %s AND count = 0
AND NOT EXISTS (SELECT 1 FROM ingest_rejectedpacket p WHERE p.rejected_id = r.id)
"""


@dataclass(slots=True)
class ReplayResult:
    """The result of a replay. `next`: the row after which the next call continues, if rows are left."""

    replayed: int = 0
    rejected: int = 0
    errors: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)  # device, metric, reason, detail
    next: int | None = None

    def as_json(self) -> dict[str, Any]:
        errors = [
            {"device_id": device, "metric_name": metric, "reason": reason, "detail": detail, "count": count}
            for (device, metric, reason, detail), count in self.errors.most_common(MAX_REPLAY_ERRORS)
        ]
        return {"replayed": self.replayed, "still_rejected": self.rejected, "errors": errors, "next": self.next}


def replay(row_ids: Iterable[int], by: Caller) -> ReplayResult:
    """Replay rows of the inbox, given in ascending order, up to the limits of one call.

    Raises WriterOverloaded and StorageUnavailable; points replayed before that stay stored.
    """
    series_registry.refresh_registry()  # a definition may have been changed a moment ago
    result, started, last = ReplayResult(), time.monotonic(), 0
    with dedicated_connection() as connection:
        for row_id in row_ids:
            is_full = result.replayed + result.rejected >= MAX_REPLAY_POINTS
            if is_full or time.monotonic() - started > REPLAY_TIMEOUT:
                result.next = last
                break
            _replay_row(connection, row_id, by, result)
            last = row_id
    return result


def _replay_row(connection: Connection, row_id: int, by: Caller, result: ReplayResult) -> None:
    with connection.transaction():
        row = connection.execute(_ROW, (row_id,)).fetchone()
        if row is None:
            return
        sender, device_id, metric_name, reason = row
        packets, points = lock_points(connection, row_id)
        if not points:
            return
        batch = _batch_of_points(device_id, metric_name, points)
        rejections = _send(batch, Caller.internal(f"{sender} (replayed by {by.name})"))
        result.replayed += len(points) - len(rejections)
        result.rejected += len(rejections)
        result.errors.update((device_id, metric_name, error.reason, error.detail) for error in rejections)
        same_reason = [error for error in rejections if error.reason == reason]
        replace_points(connection, packets, [points[error.index] for error in same_reason])
        detail = same_reason[-1].detail if same_reason else None
        connection.execute(_REDUCE_COUNT, (len(points) - len(same_reason), detail, row_id))
        connection.execute(_DELETE_EMPTY, (row_id,))
        other_reason = [error for error in rejections if error.reason != reason]
        _move_points(connection, (sender, device_id, metric_name), other_reason, points)


def _send(batch: Batch, sender: Caller) -> list[Rejection]:
    """Send points through the pipeline; return the new rejections."""
    try:
        return accept(batch, sender, keep_rejected=False).rejected
    except RequestRejected as error:
        return list(error.rejections)


def _move_points(
    connection: Connection, names: tuple[str, str, str], rejections: list[Rejection], points: list[RejectedPoint]
) -> None:
    """Move points that are now rejected for another reason to the row of that reason."""
    now = time.time()
    by_reason: dict[str, list[Rejection]] = {}
    for error in rejections:
        by_reason.setdefault(error.reason, []).append(error)
    rows = [
        InboxRow(*names, reason, now, now, len(errors), errors[-1].detail, [points[error.index] for error in errors])
        for reason, errors in sorted(by_reason.items())
    ]
    if rows:
        write_rows(connection, rows)


def _batch_of_points(device_id: str, metric_name: str, points: list[RejectedPoint]) -> Batch:
    """Return points of one series as a Batch."""
    entries = {b"": 0}
    contexts = np.array([entries.setdefault(point.context, len(entries)) for point in points], np.int32)
    values: Any = [point.value for point in points]
    if all(type(value) is float for value in values):
        values = np.array(values, np.float64)
    return Batch(
        [Group(device_id, 0, len(points))],
        [metric_name] * len(points),
        np.array([point.time for point in points], np.int64),
        values,
        contexts if len(entries) > 1 else None,
        list(entries),
    )
