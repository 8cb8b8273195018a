"""When collectors are due: at whole multiples of their interval since 1970, each with a stable offset. Pure."""

import hashlib
import math
from datetime import UTC, datetime, timedelta


def offset_of(collector_id: str, jitter: float) -> float:
    """Return the offset of a collector in seconds: from 0 to before `jitter`, always the same for the same ID."""
    digest = hashlib.sha256(collector_id.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 * jitter


def next_due(after: datetime, interval: float, offset: float) -> datetime:
    """Return the first due time after a time. Due times that have passed are left out."""
    elapsed = after.timestamp() - offset
    due = (math.floor(elapsed / interval) + 1) * interval + offset
    at = datetime.fromtimestamp(due, UTC)
    return at if at > after else at + timedelta(seconds=interval)  # rounded to the microsecond
