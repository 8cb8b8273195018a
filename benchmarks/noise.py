"""Stationary noise of six shapes, in which nothing ever happens: whatever a detector tells of it is false."""

from collections.abc import Callable
from typing import Final

import numpy as np

from alerts.detector.detector import MARK_SCORE, NOTIFY_SCORE, Detector
from alerts.detector.state import Floats, Ints

DAY: Final = 86_400
BEGIN: Final = 1_700_000_000  # a Tuesday
STRETCH: Final = 4_096  # points that are made at once
BURSTS: Final = 4 / DAY  # begin in a second
BURST: Final = 1_800  # seconds of a burst, in the mean

Source = Callable[[Ints, int], Floats]  # values [times, series] of further times, in seconds


def gaussian(rng: np.random.Generator) -> Source:
    return lambda times, series: rng.normal(50, 5, (len(times), series))


def lognormal(rng: np.random.Generator) -> Source:
    return lambda times, series: rng.lognormal(1, 0.8, (len(times), series))


def poisson(rng: np.random.Generator) -> Source:
    return lambda times, series: rng.poisson(6, (len(times), series)).astype(np.float64)


def daily(rng: np.random.Generator) -> Source:
    return lambda times, series: _day(times)[:, None] + rng.normal(0, 6, (len(times), series))


def weekly(rng: np.random.Generator) -> Source:
    """Weekends are at half of what a working day is."""

    def values(times: Ints, series: int) -> Floats:
        weekend = (times // DAY + 3) % 7 >= 5
        return (np.where(weekend, 0.5, 1) * _day(times))[:, None] + rng.normal(0, 6, (len(times), series))

    return values


def bursty(rng: np.random.Generator) -> Source:
    """Calm, and a few times a day for some time much more, at a level of its own."""
    height = np.zeros(0)

    def values(times: Ints, series: int) -> Floats:
        nonlocal height
        step = int(times[1] - times[0])
        height = height if len(height) else np.zeros(series)
        heights = np.empty((len(times), series))
        for place in range(len(times)):
            height = np.where(rng.random(series) < step / BURST, 0, height)
            begins = rng.random(series) < step * BURSTS
            height = np.where((height == 0) & begins, rng.lognormal(3, 0.5, series), height)
            heights[place] = height
        return rng.normal(10, 2, heights.shape) + heights * rng.normal(1, 0.2, heights.shape)

    return values


SHAPES: Final = (gaussian, lognormal, poisson, daily, weekly, bursty)


def _day(times: Ints) -> Floats:
    return np.asarray(100 + 40 * np.sin(2 * np.pi * (times % DAY) / DAY))


def alarms(interval: int, days: float, series: int, seed: int) -> tuple[Ints, Ints]:
    """Marks and notifications [shapes, series] of so many days of noise, all series in lockstep."""
    detector = Detector(len(SHAPES) * series)
    slots = np.array([detector.add() for _ in range(len(SHAPES) * series)])
    sources = [shape(np.random.default_rng([seed, number])) for number, shape in enumerate(SHAPES)]
    marks, notifications = np.zeros(len(slots), np.int64), np.zeros(len(slots), np.int64)
    end = BEGIN + int(days * DAY)
    for begin in range(BEGIN, end, STRETCH * interval):
        times = np.arange(begin, min(begin + STRETCH * interval, end), interval)
        stretch = np.concatenate([values(times, series) for values in sources], axis=1)
        for time, values in zip(times, stretch, strict=True):
            score = detector.step(slots, np.full(len(slots), time * 1_000_000), values).score
            marks += score >= MARK_SCORE
            notifications += score >= NOTIFY_SCORE
    return marks.reshape(len(SHAPES), series), notifications.reshape(len(SHAPES), series)
