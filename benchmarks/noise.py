"""Stationary noise of six shapes without anomalies: every alarm is false."""

from collections.abc import Callable

import numpy as np

from alerts.detector.detector import Detector
from alerts.detector.scoring import MARK_SCORE, NOTIFY_SCORE
from alerts.detector.state import Floats, Ints

DAY = 86_400
BEGIN = 1_700_000_000  # a Tuesday
CHUNK = 4_096  # points per series that are generated at once
BURST_RATE = 4 / DAY  # bursts per second
BURST_DURATION = 1_800  # mean seconds of a burst

NoiseSource = Callable[[Ints, int], Floats]  # returns values [times, series] for times in seconds


def gaussian(rng: np.random.Generator) -> NoiseSource:
    return lambda times, series: rng.normal(50, 5, (len(times), series))


def lognormal(rng: np.random.Generator) -> NoiseSource:
    return lambda times, series: rng.lognormal(1, 0.8, (len(times), series))


def poisson(rng: np.random.Generator) -> NoiseSource:
    return lambda times, series: rng.poisson(6, (len(times), series)).astype(np.float64)


def daily(rng: np.random.Generator) -> NoiseSource:
    return lambda times, series: _daily_level(times)[:, None] + rng.normal(0, 6, (len(times), series))


def weekly(rng: np.random.Generator) -> NoiseSource:
    """Weekends have half the level of working days."""

    def values(times: Ints, series: int) -> Floats:
        weekend = (times // DAY + 3) % 7 >= 5
        return (np.where(weekend, 0.5, 1) * _daily_level(times))[:, None] + rng.normal(0, 6, (len(times), series))

    return values


def bursty(rng: np.random.Generator) -> NoiseSource:
    """Mostly constant, with bursts of another level a few times per day."""
    height = np.zeros(0)

    def values(times: Ints, series: int) -> Floats:
        nonlocal height
        step = int(times[1] - times[0])
        height = height if len(height) else np.zeros(series)
        heights = np.empty((len(times), series))
        for index in range(len(times)):
            height = np.where(rng.random(series) < step / BURST_DURATION, 0, height)
            begins = rng.random(series) < step * BURST_RATE
            height = np.where((height == 0) & begins, rng.lognormal(3, 0.5, series), height)
            heights[index] = height
        return rng.normal(10, 2, heights.shape) + heights * rng.normal(1, 0.2, heights.shape)

    return values


SHAPES = (gaussian, lognormal, poisson, daily, weekly, bursty)


def _daily_level(times: Ints) -> Floats:
    return np.asarray(100 + 40 * np.sin(2 * np.pi * (times % DAY) / DAY))


def count_alarms(interval: int, days: float, series: int, seed: int) -> tuple[Ints, Ints]:
    """Return the numbers of marks and notifications [shapes, series] in this many days of noise."""
    detector = Detector(len(SHAPES) * series)
    slots = np.array([detector.add() for _ in range(len(SHAPES) * series)])
    sources = [shape(np.random.default_rng([seed, number])) for number, shape in enumerate(SHAPES)]
    marks, notifications = np.zeros(len(slots), np.int64), np.zeros(len(slots), np.int64)
    end = BEGIN + int(days * DAY)
    for begin in range(BEGIN, end, CHUNK * interval):
        times = np.arange(begin, min(begin + CHUNK * interval, end), interval)
        chunk = np.concatenate([values(times, series) for values in sources], axis=1)
        for time, values in zip(times, chunk, strict=True):
            score = detector.step(slots, np.full(len(slots), time * 1_000_000), values).score
            marks += score >= MARK_SCORE
            notifications += score >= NOTIFY_SCORE
    return marks.reshape(len(SHAPES), series), notifications.reshape(len(SHAPES), series)
