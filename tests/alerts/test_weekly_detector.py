"""Weekly profiles of the anomaly detector."""

from dataclasses import fields
from functools import cache

import numpy as np
import pytest

from alerts.detector.detector import Detector
from alerts.detector.reasons import reason_text
from alerts.detector.scoring import MARK_SCORE, NOTIFY_SCORE, Detection
from alerts.detector.state import Floats, Ints

QUARTER_HOUR = 900_000_000  # µs
DAY = 96 * QUARTER_HOUR
MONDAY = 1_699_833_600_000_000
WEDNESDAY, SUNDAY = 30, 34  # day numbers in the fifth week
LAST_SUNDAY = 41
SEEDS = 3
CHANGES = {"nothing": {}, "a Sunday like a Monday": {SUNDAY: 0}, "a Wednesday like a Sunday": {WEDNESDAY: 6}}


def generate_weeks(weekday_by_day: dict[int, int], seed: int, weekend_factor: float = 0.5) -> tuple[Ints, Floats]:
    """Return seven weeks of a series that is high from 8:00 to 18:00, lower by a factor on weekends.

    `weekday_by_day` maps day numbers to the weekday whose profile they get.
    """
    times = MONDAY + QUARTER_HOUR * np.arange(49 * 96)
    day, hour = (times - MONDAY) // DAY, times % DAY / DAY * 24
    weekday = np.array([weekday_by_day.get(number, number % 7) for number in range(49)])[day]
    level = 60 + 40 * np.clip(np.minimum(hour - 8, 18 - hour) * 2, 0, 1)
    noise = np.random.default_rng(seed).normal(0, 3, len(times))
    return times, np.where(weekday >= 5, weekend_factor, 1) * level + noise


def detect_all(series: list[tuple[Ints, Floats]]) -> list[Detection]:
    """Run the detector on several series with equal times together."""
    detector = Detector()
    slots = np.array([detector.add() for _ in series])
    detections = [Detection.blank(len(times)) for times, _ in series]
    for row, time in enumerate(series[0][0]):
        detect_changed_weeks = detector.step(
            slots, np.full(len(slots), time), np.array([values[row] for _, values in series])
        )
        for position, series_detection in enumerate(detections):
            series_detection.assign(
                slice(row, row + 1),
                Detection(*(column[position : position + 1] for column in detection_columns(detect_changed_weeks))),
            )
    return detections


def detection_columns(detection: Detection) -> tuple[Floats | Ints, ...]:
    return tuple(getattr(detection, column.name) for column in fields(Detection))


@cache
def detect_changed_weeks(change: str) -> list[Detection]:
    return detect_all([generate_weeks(CHANGES[change], seed) for seed in range(SEEDS)])


def rows_of_day(number: int) -> slice:
    return slice(number * 96, (number + 1) * 96)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "day", "side"),
    [("a Sunday like a Monday", SUNDAY, "above"), ("a Wednesday like a Sunday", WEDNESDAY, "below")],
)
def test_weekday_with_the_wrong_profile_notifies_within_three_hours(change: str, day: int, side: str) -> None:
    for detection in detect_changed_weeks(change):
        first_hours = slice(day * 96, day * 96 + 12)
        assert detection.score[first_hours].max() >= NOTIFY_SCORE
        texts = [
            reason_text(int(code)) for code in detection.reason[first_hours][detection.score[first_hours] >= MARK_SCORE]
        ]
        assert any(f"{side} the range of this hour of the week in 3 weeks" in text for text in texts), texts


@pytest.mark.slow
def test_regular_weeks_notify_nothing() -> None:
    for detection in detect_changed_weeks("nothing"):
        assert detection.score[21 * 96 :].max() < NOTIFY_SCORE
        assert (detection.score[rows_of_day(SUNDAY)] < MARK_SCORE).all()
        assert (detection.score[rows_of_day(WEDNESDAY)] < MARK_SCORE).all()


@pytest.mark.slow
def test_expected_range_follows_the_hour_of_the_week() -> None:
    for seed, detection in enumerate(detect_changed_weeks("nothing")):
        sunday, monday = rows_of_day(LAST_SUNDAY), rows_of_day(LAST_SUNDAY + 1)
        assert (detection.high[sunday] - detection.low[monday]).mean() < 0
        values = generate_weeks({}, seed)[1]
        inside = (values >= detection.low) & (values <= detection.high)
        assert inside[21 * 96 :].mean() > 0.9


@pytest.mark.slow
def test_week_without_points_keeps_the_profile() -> None:
    times, values = generate_weeks({}, 1)
    present = ((times - MONDAY) // DAY < 22) | ((times - MONDAY) // DAY >= 31)
    [detection] = detect_all([(times[present], values[present])])
    day = (times[present] - MONDAY) // DAY
    assert (detection.high[day == LAST_SUNDAY] - detection.low[day == LAST_SUNDAY + 1]).mean() < 0


@pytest.mark.slow
def test_series_with_equal_days_is_not_weekly() -> None:
    [detection] = detect_all([generate_weeks({}, 1, weekend_factor=1)])
    assert not any("of the week" in reason_text(int(code)) for code in detection.reason)
    sunday, monday = rows_of_day(LAST_SUNDAY), rows_of_day(LAST_SUNDAY + 1)
    assert np.median(np.abs(detection.high[sunday] - detection.high[monday])) < 5


@pytest.mark.slow
def test_weekly_profile_survives_a_restart() -> None:
    times, values = generate_weeks({SUNDAY: 0}, 0)
    cut = SUNDAY * 96 + 2
    detector, restored = Detector(), Detector()
    slot = detector.add()
    detector.run(slot, times[:cut], values[:cut])
    state = detector.dump(slot)
    assert len(state) <= 20_000
    detection = restored.run(restored.add(state), times[cut:], values[cut:])
    for column, expected in zip(
        detection_columns(detection), detection_columns(detect_changed_weeks("a Sunday like a Monday")[0]), strict=True
    ):
        np.testing.assert_array_equal(column, expected[cut:])
