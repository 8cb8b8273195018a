"""Which new points are judged as they come: those that are in order, and not too old."""

from metrics.query.accumulators import Ints

LATE = 300 * 1_000_000  # µs: what is older when it arrives is history, and pages nobody


def in_order(times: Ints, arrived: int, watermark: int) -> int:
    """The place of the first point that is judged, of points that arrived at a time and come after others (µs)."""
    return int(times.searchsorted(max(arrived - LATE, watermark + 1)))
