"""One plain number by the shortest way: what a simple device sends, thousands of times a second.

It gives up at the first thing out of the ordinary, before anything is stored; the way that all others take then
finds out what it is, and says so.
"""

import time
from typing import Any

from ingest.authentication import Sender
from ingest.doors import single_answer
from ingest.pipeline import AHEAD
from ingest.wire.judge import LARGEST_INTEGER
from ingest.wire.native import GIVES_UP, PLAIN
from ingest.wire.times import parse_time
from metrics.catalogue import current
from metrics.storage.write import Arrivals, Entry, writer


async def store_number(body: bytes, device_id: str, sender: Sender) -> dict[str, Any] | None:
    """The answer, after COMMIT; None where it gave up. The caller has seen that the sender may write to the device."""
    try:
        point = PLAIN.decode(body)
        measured = parse_time(point.timestamp)
    except GIVES_UP:
        return None
    known, value = current(), point.value
    slot = known.slot(device_id, point.metric_name)
    now = time.time()
    age = int(now * 1_000_000) - measured
    if (
        slot < 0
        or not -AHEAD <= age <= known.retention[slot]
        or not -LARGEST_INTEGER < value < LARGEST_INTEGER
        or not known.low[slot] <= value <= known.high[slot]
    ):
        return None
    arrivals = Arrivals([known.series.item(slot)], [measured], [value])
    await writer().submit_async([arrivals], Entry(sender.name, now, 1, device_id=device_id))
    return single_answer(device_id, point.metric_name)
