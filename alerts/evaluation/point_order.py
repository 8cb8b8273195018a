"""Which new points are evaluated on arrival: those that are in order and not late."""

from metrics.query.accumulators import Ints

LATE = 300 * 1_000_000  # µs; points that are older on arrival are late data: evaluated as history, without notification


def first_on_time(times: Ints, arrived: int, watermark: int) -> int:
    """Return the position of the first point (times ascending) that is not late and is after the watermark."""
    return int(times.searchsorted(max(arrived - LATE, watermark + 1)))
