"""Rejected points once more, under the definitions as they are now.

They go through the pipeline like any others, with the times at which they were measured. What passes leaves the inbox
after it is stored: whoever is killed in between leaves points that are replayed again, which changes nothing.
"""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ingest.pipeline import accept
from ingest.rejected.points import KeptPoint
from ingest.rejected.retention import hold, replace
from ingest.rejected.rows import Line, write
from ingest.wire.batch import Batch, Group, Rejection, RequestRejected
from metrics.storage import series_registry
from metrics.storage.connection import Connection, dedicated_connection
from rest.caller import Caller

MOST_POINTS = 50_000  # of one call
PATIENCE = 10.0  # seconds of one call
MOST_ERRORS = 20

_ROW = "SELECT sender, device_id, metric_name, reason FROM ingest_rejected WHERE id = %s"
_LESS = "UPDATE ingest_rejected SET count = greatest(count - %s, 0), detail = coalesce(%s, detail) WHERE id = %s"
_DONE = """
DELETE FROM ingest_rejected r WHERE id = %s AND count = 0
AND NOT EXISTS (SELECT 1 FROM ingest_rejectedpacket p WHERE p.rejected_id = r.id)
"""


@dataclass(slots=True)
class Replayed:
    """What became of rows that were replayed. `next`: the row after which to go on, where some are left."""

    replayed: int = 0
    rejected: int = 0
    errors: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)  # device, metric, reason, detail
    next: int | None = None

    def as_json(self) -> dict[str, Any]:
        errors = [
            {"device_id": device, "metric_name": metric, "reason": reason, "detail": detail, "count": count}
            for (device, metric, reason, detail), count in self.errors.most_common(MOST_ERRORS)
        ]
        return {"replayed": self.replayed, "still_rejected": self.rejected, "errors": errors, "next": self.next}


def replay(numbers: Iterable[int], by: Caller) -> Replayed:
    """Replay rows of the inbox, in ascending order, up to what fits one call.

    Raises Overloaded and StorageUnavailable; what was replayed by then stays so.
    """
    series_registry.refresh_registry()  # a definition may have been mended a moment ago
    told, began, last = Replayed(), time.monotonic(), 0
    with dedicated_connection() as connection:
        for number in numbers:
            if told.replayed + told.rejected >= MOST_POINTS or time.monotonic() - began > PATIENCE:
                told.next = last
                break
            _replay(connection, number, by, told)
            last = number
    return told


def _replay(connection: Connection, number: int, by: Caller, told: Replayed) -> None:
    with connection.transaction():
        row = connection.execute(_ROW, (number,)).fetchone()
        if row is None:
            return
        sender, device_id, metric_name, reason = row
        held, points = hold(connection, number)
        if not points:
            return
        batch = batch_of(device_id, metric_name, points)
        failed = _send(batch, Caller.internal(f"{sender} (replayed by {by.name})"))
        told.replayed += len(points) - len(failed)
        told.rejected += len(failed)
        told.errors.update((device_id, metric_name, one.reason, one.detail) for one in failed)
        as_before = [one for one in failed if one.reason == reason]
        replace(connection, held, [points[one.index] for one in as_before])
        detail = as_before[-1].detail if as_before else None
        connection.execute(_LESS, (len(points) - len(as_before), detail, number))
        connection.execute(_DONE, (number,))
        _move(connection, (sender, device_id, metric_name), [one for one in failed if one.reason != reason], points)


def _send(batch: Batch, sender: Caller) -> list[Rejection]:
    """Through the pipeline; what is rejected again."""
    try:
        return accept(batch, sender, note=False).rejected
    except RequestRejected as refused:
        return list(refused.rejections)


def _move(
    connection: Connection, names: tuple[str, str, str], failed: list[Rejection], points: list[KeptPoint]
) -> None:
    """Points that are rejected for another reason now stand in the row of that reason."""
    now = time.time()
    by_reason: dict[str, list[Rejection]] = {}
    for one in failed:
        by_reason.setdefault(one.reason, []).append(one)
    lines = [
        Line(*names, reason, now, now, len(some), some[-1].detail, [points[one.index] for one in some])
        for reason, some in sorted(by_reason.items())
    ]
    if lines:
        write(connection, lines)


def batch_of(device_id: str, metric_name: str, points: list[KeptPoint]) -> Batch:
    """Kept points of one metric of one device as they came in."""
    entries = {b"": 0}
    contexts = np.array([entries.setdefault(one.context, len(entries)) for one in points], np.int32)
    values: Any = [one.value for one in points]
    if all(type(value) is float for value in values):
        values = np.array(values, np.float64)
    return Batch(
        [Group(device_id, 0, len(points))],
        [metric_name] * len(points),
        np.array([one.time for one in points], np.int64),
        values,
        contexts if len(entries) > 1 else None,
        list(entries),
    )
