"""The fastest path, for small batches of numeric points, which simple devices send thousands of times per second.

Up to some dozens of points a loop is faster than columns. A batch with anything unusual is left to the pipeline, which
validates it in full and returns the errors.
"""

import time
from collections.abc import Callable

from ingest.pipeline import Receipt
from ingest.wire.batch import Group
from ingest.wire.point_bounds import all_within_limits
from ingest.wire.telemetry_json import FAST_PATH_ERRORS, NumericPoint
from ingest.wire.times import parse_time
from ingest.wire.validate import MAX_INTEGER
from metrics.storage.series_registry import cached_registry
from metrics.storage.write.group_commit import JournalEntry, writer
from metrics.storage.write.incoming import IncomingPoints
from rest.caller import Caller

MAX_SMALL_BODY = 4096  # bytes of a body: about forty points


async def store_small_batch(
    decode: Callable[[bytes, str], dict[str, list[NumericPoint]]], body: bytes, device_id: str, sender: Caller
) -> Receipt | None:
    """Store a batch and return the receipt after COMMIT; return None if the batch has to take the pipeline."""
    if len(body) > MAX_SMALL_BODY:
        return None
    registry, now = cached_registry(), time.time()
    rows: list[int] = []
    times: list[int] = []
    values: list[float] = []
    groups: list[Group] = []
    try:
        devices = decode(body, device_id)
        for device, points in devices.items():
            if not points or not sender.may_write(device):
                return None
            rows_of_device = registry.numeric_rows(device)
            for point in points:
                if not -MAX_INTEGER < point.value < MAX_INTEGER:
                    return None
                rows.append(rows_of_device[point.metric_name])
                times.append(parse_time(point.timestamp))
                values.append(point.value)
            groups.append(Group(device, len(times) - len(points), len(times)))
    except (*FAST_PATH_ERRORS, KeyError):
        return None
    if not groups or not all_within_limits(values, times, rows, int(now * 1_000_000), registry):
        return None
    entry = JournalEntry(sender.name, now, len(times), device_id=groups[0].device_id if len(groups) == 1 else None)
    series = [registry.series.item(row) for row in rows]
    await writer().submit_async([IncomingPoints(series, times, values)], entry, series_revision=registry.revision)
    return Receipt(len(times), [], groups, points[0].metric_name)
