"""Counters: the integral of a rate with a daily and a weekly cycle, from 0 at each restart."""

import numpy as np

from telemetry_client.simulator.device_types import Metric
from telemetry_client.simulator.drivers import DAY, MINUTE, SECOND, WEEK
from telemetry_client.simulator.hashing import Floats, Ints, derive_key, uniform, uniform_at

# The rate is 1 ± these parts, so it is never below 0.02 and the integral never falls.
_DAILY, _WEEKLY, _JITTER = 0.5, 0.2, 0.28
_JITTER_PERIOD = 10 * MINUTE


def count_up(metric: Metric, key: int, times: Ints, restarts: Ints) -> Floats:
    """Return the counts at these times. `restarts` ascend, and the first one is before the first time."""
    began = restarts[restarts.searchsorted(times, "right") - 1]
    if metric.steady:
        counts = (times - began) * (metric.base / SECOND)
    else:
        rate = metric.base * (1 + metric.spread * (2 * uniform_at(key, 0) - 1)) / SECOND
        key = derive_key(key, "jitter")
        begins, positions = np.unique(began, return_inverse=True)
        counts = rate * (_integrate(key, times) - _integrate(key, begins)[positions])
    scale = 10.0**metric.decimals
    floored: Floats = np.floor(counts * scale) / scale  # rounding down keeps the order
    return floored


def _integrate(key: int, times: Ints) -> Floats:
    """Return the integral of the rate, in ms at rate 1, up to a constant. Times ascend."""
    day, week = 2 * np.pi / DAY, 2 * np.pi / WEEK
    total = times.astype(np.float64)
    total -= (_DAILY / day) * np.sin(day * (times % DAY) - 0.9)
    total -= (_WEEKLY / week) * np.sin(week * (times % WEEK) - 0.4)
    first = int(times[0]) // _JITTER_PERIOD
    knots = uniform(key, np.arange(first, int(times[-1]) // _JITTER_PERIOD + 2, dtype=np.int64))
    position = (times - first * _JITTER_PERIOD) * (1 / _JITTER_PERIOD)
    index = position.astype(np.int64)
    total += (_JITTER * _JITTER_PERIOD) * (knots[index] + (knots[index + 1] - knots[index]) * (position - index))
    return total
