"""Labelled synthetic series, from a seed: each kind of anomaly, and of normal behaviour that should not notify."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from alerts.detector.state import Floats, Ints

SECOND = 1_000_000  # µs
MINUTE, HOUR, DAY = 60 * SECOND, 3_600 * SECOND, 86_400 * SECOND
START = 1_700_006_400 * SECOND  # midnight UTC, a Wednesday
Labels = list[tuple[int, int]]  # (first, last) time of each window
Change = Callable[[np.random.Generator, Floats, int], int]  # changes values from a row on; returns the rows changed


@dataclass(frozen=True, slots=True)
class KindSeries:
    """A series of one kind. Without windows, every alert is false."""

    kind: str
    times: Ints
    values: Floats
    windows: Labels


def daily(rng: np.random.Generator, times: Ints, noise: float = 2.0) -> Floats:
    """Return a series that is high from 8:00 to 18:00."""
    hour = times % DAY / HOUR
    return 50 + 40 * np.clip(np.minimum(hour - 8, 18 - hour) / 2, 0, 1) + rng.normal(0, noise, len(times))


def weekly(rng: np.random.Generator, times: Ints) -> Floats:
    return np.where(times // DAY % 7 - 2 >= 0, 1.0, 0.5) * daily(rng, times)


def flat(rng: np.random.Generator, times: Ints) -> Floats:
    return 50 + rng.normal(0, 2, len(times))


def jump(size: float) -> Change:
    """Return a spike of one row, in standard deviations of the noise."""

    def change(rng: np.random.Generator, values: Floats, row: int) -> int:
        values[row] += 2 * size
        return 1

    return change


def level(size: float, rows: int = 60) -> Change:
    def change(rng: np.random.Generator, values: Floats, row: int) -> int:
        values[row : row + rows] += size
        return rows

    return change


def variance(rng: np.random.Generator, values: Floats, row: int) -> int:
    values[row : row + 60] += rng.normal(0, 12, len(values[row : row + 60]))
    return 60


def stuck(rng: np.random.Generator, values: Floats, row: int) -> int:
    values[row : row + 72] = values[row]
    return 72


def collapse(rng: np.random.Generator, values: Floats, row: int) -> int:
    """Fall to the level of the night in the middle of the day."""
    values[row : row + 36] = 50 + rng.normal(0, 2, len(values[row : row + 36]))
    return 36


def repeated(rng: np.random.Generator, values: Floats, row: int) -> int:
    values[row : row + 6] += 40
    return 6


ANOMALIES: dict[str, tuple[Callable[[np.random.Generator, Ints], Floats], Change, int]] = {
    "jump of 5 σ": (flat, jump(5), 1),
    "jump of 10 σ": (flat, jump(10), 1),
    "jump of 20 σ": (flat, jump(20), 1),
    "jump of 20 σ, daily": (daily, jump(20), 1),
    "jump of 20 σ, weekly": (weekly, jump(20), 1),
    "spike within the daily range": (daily, jump(15), 1),
    "level shift of 20 σ": (flat, level(40), 1),
    "level shift, daily": (daily, level(60), 1),
    "more variance": (flat, variance, 1),
    "flat line": (daily, stuck, 1),
    "collapse to the level of the night": (daily, collapse, 1),
    "the same anomaly eight times": (flat, repeated, 8),
}
INTERVALS = {
    "every second": SECOND,
    "every 10 s": 10 * SECOND,
    "every 5 minutes": 5 * MINUTE,
    "every hour": HOUR,
    "every day": DAY,
}


def _times(interval: int, rows: int) -> Ints:
    return START + interval * np.arange(rows)


def _with_anomaly(
    kind: str, rng: np.random.Generator, times: Ints, values: Floats, change: Change, number: int
) -> KindSeries:
    """Add anomalies in the last 40 % of a series, by day."""
    windows = []
    for part in range(number):
        row = int(len(times) * (0.6 + 0.38 * (part + rng.random() / 2) / number))
        if 0 <= (hour := times[row] % DAY // HOUR) < 9 or hour > 14:  # to the middle of a day
            row += int((11 * HOUR - times[row] % DAY) // max(int(times[1] - times[0]), 1))
        last = min(row + change(rng, values, row) - 1, len(times) - 1)
        windows.append((int(times[row]), int(times[min(last + 2, len(times) - 1)])))
    return KindSeries(kind, times, values, windows)


def counter(rng: np.random.Generator, times: Ints) -> Floats:
    """A counter that is reset twice a week."""
    steps = rng.poisson(20, len(times)).astype(np.float64)
    total = np.cumsum(steps)
    resets = np.searchsorted(times, np.arange(START, times[-1], int(3.5 * DAY)))
    return total - total[resets][np.searchsorted(resets, np.arange(len(times)), "right") - 1]


def counts(rng: np.random.Generator, times: Ints) -> Floats:
    """Heavy-tailed counts."""
    return np.floor(rng.lognormal(1, 1.0, len(times)))


def constant(rng: np.random.Generator, times: Ints) -> Floats:
    return np.full(len(times), 45.0)


def drift(rng: np.random.Generator, times: Ints) -> Floats:
    return flat(rng, times) + np.arange(len(times)) / 200


NORMAL: dict[str, Callable[[np.random.Generator, Ints], Floats]] = {
    "daily": daily, "weekly": weekly, "counter with resets": counter, "heavy-tailed counts": counts,
    "constant for a month": constant, "slow drift": drift,
}  # fmt: skip


def generate_kinds(seed: int, series: int) -> list[KindSeries]:
    """Return this many series of each kind: a month of 5 minutes, or 3,000 rows at other intervals (200 days)."""
    result = []
    for number in range(series):
        rng = np.random.default_rng([seed, number])
        month = _times(5 * MINUTE, 30 * 288)
        for kind, (base, change, repeats) in ANOMALIES.items():
            result.append(_with_anomaly(kind, rng, month, base(rng, month), change, repeats))
        for kind, base in NORMAL.items():
            result.append(KindSeries(f"normal: {kind}", month, base(rng, month), []))
        for name, interval in INTERVALS.items():
            times = _times(interval, 200 if interval == DAY else 720 if interval == HOUR else 3_000)
            times = (
                times
                if interval >= 5 * MINUTE
                else _times(interval, 2 * DAY // interval)[:: max(1, 6 * SECOND // interval)]
            )
            result.append(_with_anomaly(f"jump of 20 σ, {name}", rng, times, flat(rng, times), jump(20), 1))
        kept = np.sort(rng.permutation(len(month))[: len(month) // 2])
        times = month[kept] + rng.integers(0, 4 * MINUTE, len(kept))
        values = daily(rng, times)
        result.append(KindSeries("normal: irregular, half of the points missing", times, values.copy(), []))
        result.append(_with_anomaly("jump of 20 σ, irregular", rng, times, values, jump(20), 1))
    return result
