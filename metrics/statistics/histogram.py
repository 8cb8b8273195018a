"""Arithmetic of statistics: rates, ratios, percentiles of histograms, largest counts. Pure: no database."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from rest.request_stats import LATENCIES

HOURS = 24  # of the clock in UTC, including the current one
TOP_METRICS = 10
OTHER = "other"


def percentile(counts: Sequence[int], fraction: float) -> float | None:
    """Return a percentile of latencies in seconds, interpolated within its bucket; None if all counts are 0.

    `counts` are those of the buckets of LATENCIES, the last without an upper bound.
    """
    rank = fraction * sum(counts)
    below = 0
    for bucket, count in enumerate(counts):
        if count and below + count >= rank:
            low = LATENCIES[bucket - 1] if bucket else 0.0
            high = LATENCIES[min(bucket, len(LATENCIES) - 1)]
            return low + (high - low) * (rank - below) / count
        below += count
    return None


def ratio(part: float, whole: float) -> float:
    """Return part / whole; 0 if the whole is 0."""
    return part / whole if whole else 0.0


def last_day_hours(current_hour: int) -> range:
    """Return the last 24 hours (since 1970), including the current one."""
    return range(current_hour - HOURS + 1, current_hour + 1)


def format_hour(hour: int) -> str:
    """Return the begin of an hour (since 1970) in RFC 3339."""
    return f"{datetime.fromtimestamp(hour * 3600, UTC):%Y-%m-%dT%H:%M:%SZ}"


def points_per_minute(by_hour: Mapping[int, int], now: datetime) -> float:
    """Return the average rate from the begin of the first hour (since 1970) with points until now."""
    hours = [hour for hour, points in by_hour.items() if points]
    if not hours:
        return 0.0
    elapsed = now - datetime.fromtimestamp(min(hours) * 3600, UTC)
    return sum(by_hour.values()) / max(elapsed / timedelta(minutes=1), 1.0)


def top_metrics(counts: Mapping[str, int], limit: int = TOP_METRICS) -> list[dict[str, str | int]]:
    """Return the names with the most points, largest first."""
    return [{"name": name, "points": points} for name, points in _by_count(counts)[:limit] if points]


def count_by_type(types: Iterable[str], all_types: Sequence[str]) -> dict[str, int]:
    """Return how often each type occurs, including those of `all_types` that do not."""
    counts = dict.fromkeys(all_types, 0)
    for name in types:
        counts[name] = counts.get(name, 0) + 1
    return counts


def largest_counts(counts: Mapping[str, int], limit: int) -> dict[str, int]:
    """Return the largest counts by name and the sum of the others under OTHER, since free text has many values."""
    ordered = _by_count(counts)
    largest = dict(ordered[:limit])
    if rest := sum(count for _, count in ordered[limit:]):
        largest[OTHER] = largest.get(OTHER, 0) + rest
    return largest


def _by_count(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
