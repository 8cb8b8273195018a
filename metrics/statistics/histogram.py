"""The arithmetic of statistics: rates, shares, percentiles of what was counted in classes. Pure: no database."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from rest.request_stats import LATENCIES

HOURS = 24  # of the clock, the last of them the one that is running
TOP = 10  # metrics that are named
OTHER = "other"


def percentile(counts: Sequence[int], share: float) -> float | None:
    """The latency in seconds below which this share of all lies, by even spread within a class; None of nothing."""
    wanted = share * sum(counts)
    before = 0
    for place, count in enumerate(counts):
        if count and before + count >= wanted:
            low = LATENCIES[place - 1] if place else 0.0
            high = LATENCIES[min(place, len(LATENCIES) - 1)]
            return low + (high - low) * (wanted - before) / count
        before += count
    return None


def ratio(part: float, whole: float) -> float:
    """A part of a whole; 0 of nothing."""
    return part / whole if whole else 0.0


def hours_until(hour: int) -> range:
    """The hours (since 1970) of the last day by the clock, where `hour` is running."""
    return range(hour - HOURS + 1, hour + 1)


def hour_name(hour: int) -> str:
    """When an hour (since 1970) begins, in RFC 3339."""
    return f"{datetime.fromtimestamp(hour * 3600, UTC):%Y-%m-%dT%H:%M:%SZ}"


def per_minute(by_hour: Mapping[int, int], now: datetime) -> float:
    """Points a minute, from the beginning of the first hour (since 1970) that has any until now."""
    begins = [hour for hour, points in by_hour.items() if points]
    if not begins:
        return 0.0
    elapsed = now - datetime.fromtimestamp(min(begins) * 3600, UTC)
    return sum(by_hour.values()) / max(elapsed / timedelta(minutes=1), 1.0)


def most(counts: Mapping[str, int], number: int = TOP) -> list[dict[str, str | int]]:
    """The names with the largest counts, largest first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [{"name": name, "points": points} for name, points in ordered[:number] if points]


def by_kind(kinds: Iterable[str], known: Sequence[str]) -> dict[str, int]:
    """How many there are of each kind; of those that are known also where there is none."""
    found = dict.fromkeys(known, 0)
    for kind in kinds:
        found[kind] = found.get(kind, 0) + 1
    return found


def largest(counts: Mapping[str, int], number: int) -> dict[str, int]:
    """The largest counts by name, and all else under OTHER: free text is not to make an answer endless."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    found = dict(ordered[:number])
    if rest := sum(count for _, count in ordered[number:]):
        found[OTHER] = found.get(OTHER, 0) + rest
    return found
