"""Weekly profiles of the anomaly detector."""

from functools import cache

import numpy as np
import pytest

from alerts.detector.detector import MARK_SCORE, NOTIFY_SCORE, Detection, Detector
from alerts.detector.reasons import reason_text
from alerts.detector.state import Bools, Floats, Ints

QUARTER = 900_000_000  # µs of an hour
DAY = 96 * QUARTER
MONDAY = 1_699_833_600_000_000
WEDNESDAY, SUNDAY = 30, 34  # days of the fifth week
LAST_SUNDAY = 41
SEEDS = 3
CHANGES = {"nothing": {}, "a Sunday like a Monday": {SUNDAY: 0}, "a Wednesday like a Sunday": {WEDNESDAY: 6}}


def weeks(changed: dict[int, int], seed: int, weekend: float = 0.5) -> tuple[Ints, Floats]:
    """Seven weeks, high from eight to six, weekends at a share of that; days that are like another one of the week."""
    times = MONDAY + QUARTER * np.arange(49 * 96)
    day, hour = (times - MONDAY) // DAY, times % DAY / DAY * 24
    like = np.array([changed.get(number, number % 7) for number in range(49)])[day]
    level = 60 + 40 * np.clip(np.minimum(hour - 8, 18 - hour) * 2, 0, 1)
    noise = np.random.default_rng(seed).normal(0, 3, len(times))
    return times, np.where(like >= 5, weekend, 1) * level + noise


def together(series: list[tuple[Ints, Floats]]) -> list[Detection]:
    """Series with the same times, side by side."""
    detector = Detector()
    slots = np.array([detector.add() for _ in series])
    found = [Detection.blank(len(times)) for times, _ in series]
    for place, time in enumerate(series[0][0]):
        judged = detector.step(slots, np.full(len(slots), time), np.array([values[place] for _, values in series]))
        for at, one in enumerate(found):
            one.assign(slice(place, place + 1), Detection(*(column[at : at + 1] for column in columns(judged))))
    return found


def columns(judged: Detection) -> tuple[Floats, Floats, Floats, Ints, Bools]:
    return judged.score, judged.low, judged.high, judged.reason, judged.warm


@cache
def judged(change: str) -> list[Detection]:
    return together([weeks(CHANGES[change], seed) for seed in range(SEEDS)])


def of_day(number: int) -> slice:
    return slice(number * 96, (number + 1) * 96)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "day", "side"),
    [("a Sunday like a Monday", SUNDAY, "above"), ("a Wednesday like a Sunday", WEDNESDAY, "below")],
)
def test_weekday_with_the_wrong_profile_notifies_within_three_hours(change: str, day: int, side: str) -> None:
    for found in judged(change):
        begins = slice(day * 96, day * 96 + 12)
        assert found.score[begins].max() >= NOTIFY_SCORE
        texts = [reason_text(int(code)) for code in found.reason[begins][found.score[begins] >= MARK_SCORE]]
        assert any(f"{side} the range of this hour of the week in 3 weeks" in text for text in texts), texts


@pytest.mark.slow
def test_regular_weeks_notify_nothing() -> None:
    for found in judged("nothing"):
        assert found.score[21 * 96 :].max() < NOTIFY_SCORE
        assert (found.score[of_day(SUNDAY)] < MARK_SCORE).all()
        assert (found.score[of_day(WEDNESDAY)] < MARK_SCORE).all()


def test_expected_range_follows_the_hour_of_the_week() -> None:
    for seed, found in enumerate(judged("nothing")):
        sunday, monday = of_day(LAST_SUNDAY), of_day(LAST_SUNDAY + 1)
        assert (found.high[sunday] - found.low[monday]).mean() < 0
        values = weeks({}, seed)[1]
        inside = (values >= found.low) & (values <= found.high)
        assert inside[21 * 96 :].mean() > 0.9


@pytest.mark.slow
def test_week_without_points_keeps_the_profile() -> None:
    times, values = weeks({}, 1)
    there = ((times - MONDAY) // DAY < 22) | ((times - MONDAY) // DAY >= 31)
    [found] = together([(times[there], values[there])])
    day = (times[there] - MONDAY) // DAY
    assert (found.high[day == LAST_SUNDAY] - found.low[day == LAST_SUNDAY + 1]).mean() < 0


@pytest.mark.slow
def test_series_with_equal_days_is_not_weekly() -> None:
    [found] = together([weeks({}, 1, weekend=1)])
    assert not any("of the week" in reason_text(int(code)) for code in found.reason)
    sunday, monday = of_day(LAST_SUNDAY), of_day(LAST_SUNDAY + 1)
    assert np.median(np.abs(found.high[sunday] - found.high[monday])) < 5


@pytest.mark.slow
def test_weekly_profile_survives_a_restart() -> None:
    times, values = weeks({SUNDAY: 0}, 0)
    cut = SUNDAY * 96 + 2
    before, after = Detector(), Detector()
    slot = before.add()
    before.run(slot, times[:cut], values[:cut])
    state = before.dump(slot)
    assert len(state) <= 20_000
    found = after.run(after.add(state), times[cut:], values[cut:])
    for one, whole in zip(columns(found), columns(judged("a Sunday like a Monday")[0]), strict=True):
        np.testing.assert_array_equal(one, whole[cut:])
