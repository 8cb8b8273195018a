"""A few plain numbers by the shortest way: what simple devices send, thousands of times a second.

Up to some dozens of points a loop over them costs less than columns do. It gives up at the first thing out of the
ordinary, before anything is stored; the way that all others take then finds out what it is, and says so.
"""

import time
from collections.abc import Callable

from ingest.pipeline import AHEAD, Receipt
from ingest.wire.batch import Group
from ingest.wire.telemetry_json import GIVES_UP, Plain
from ingest.wire.times import parse_time
from ingest.wire.validate import LARGEST_INTEGER
from metrics.storage.series_registry import cached_registry
from metrics.storage.write.writer import IncomingPoints, JournalEntry, writer
from rest.caller import Caller

FEW = 4096  # bytes of a body: about forty points


async def store_few(
    read: Callable[[bytes, str], dict[str, list[Plain]]], body: bytes, device_id: str, sender: Caller
) -> Receipt | None:
    """The receipt, after COMMIT; None where it gave up."""
    if len(body) > FEW:
        return None
    known, now = cached_registry(), time.time()
    micro = int(now * 1_000_000)
    series: list[int] = []
    times: list[int] = []
    values: list[float] = []
    groups: list[Group] = []
    try:
        devices = read(body, device_id)
        for device, points in devices.items():
            if not points or not sender.may_write(device):
                return None
            table = known.numeric(device)
            for point in points:
                slot, measured, value = table[point.metric_name], parse_time(point.timestamp), point.value
                if (
                    not -AHEAD <= micro - measured <= known.retention[slot]
                    or not -LARGEST_INTEGER < value < LARGEST_INTEGER
                    or not known.low[slot] <= value <= known.high[slot]
                ):
                    return None
                series.append(known.series.item(slot))
                times.append(measured)
                values.append(value)
            groups.append(Group(device, len(times) - len(points), len(times)))
    except (*GIVES_UP, KeyError):
        return None
    if not groups:
        return None
    entry = JournalEntry(sender.name, now, len(times), device_id=groups[0].device_id if len(groups) == 1 else None)
    await writer().submit_async([IncomingPoints(series, times, values)], entry, known=known.revision)
    return Receipt(len(times), [], groups, points[0].metric_name)
