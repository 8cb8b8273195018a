"""When the anomaly detector notifies: how soon, how often, at which sensitivity, and on which bad input."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.detector.detector import Detector
from alerts.detector.reasons import age_text, reason_text
from alerts.detector.scoring import MARK_SCORE, NOTIFY_SCORE, Detection
from alerts.detector.sensitivity import FACTORS, LEAST_ADJUSTMENT, MOST_ADJUSTMENT, adjust, expected_per_month, notifies
from alerts.detector.state import RECORD, Floats, Ints
from alerts.evaluation.anomaly_results import detect_together

MINUTE = 60_000_000
HOUR, DAY = 60 * MINUTE, 1440 * MINUTE
START = 1_700_006_400_000_000  # midnight UTC in µs
MAX_STATE_BYTES = 20_000


def detect(times: Ints, values: Floats) -> Detection:
    detector = Detector()
    return detector.run(detector.add(), times, values)


def noise(points: int, interval: int = 5 * MINUTE, seed: int = 1) -> tuple[Ints, Floats]:
    return START + interval * np.arange(points), 50 + np.random.default_rng(seed).normal(0, 1, points)


def notified(detection: Detection) -> list[int]:
    return np.flatnonzero(detection.score >= NOTIFY_SCORE).tolist()


@pytest.mark.parametrize("interval", [HOUR, DAY])
def test_large_jump_of_a_new_slow_series_notifies_on_the_first_day_or_20_points(interval: int) -> None:
    times, values = noise(24, interval)
    values[22] += 500
    assert notified(detect(times, values)) == [22]


def test_nothing_notifies_before_20_points() -> None:
    times, values = noise(19, HOUR)
    values[12:] += 500
    assert notified(detect(times, values)) == []


def test_nothing_notifies_in_the_first_hours_of_a_fast_series() -> None:
    times, values = noise(2000, 10_000_000)
    values[1000] += 500
    assert notified(detect(times, values)) == []


def test_anomaly_notifies_once_and_again_at_twice_the_gravity() -> None:
    times, values = noise(2000)
    values[1500:1504] += [40, 60, 50, 55]
    assert notified(detect(times, values)) == [1500]
    values[1503] += 200
    assert notified(detect(times, values)) == [1500, 1503]


def test_lasting_level_shift_notifies_once() -> None:
    times, values = noise(2500)
    values[1500:] += 60
    assert notified(detect(times, values)) == [1500]


def test_repeated_anomaly_becomes_usual() -> None:
    times, values = noise(8000)
    spikes = np.arange(3000, 8000, 144)  # twice a day
    values[spikes] += 40
    rows = notified(detect(times, values))
    assert rows[0] == 3000
    assert len(rows) <= 7
    assert rows[-1] < 3000 + 8 * 144


def test_reason_names_size_and_last_time_of_the_change() -> None:
    times, values = noise(3000)
    values[1200] += 40
    values[2400] += 38
    detection = detect(times, values)
    first, second = (
        reason_text(
            int(detection.reason[row]),
            float(detection.change[row]),
            float(detection.usual[row]),
            int(detection.seen[row]),
            int(times[row]),
        )
        for row in (1200, 2400)
    )
    assert first.startswith("jump up: ")
    assert first.endswith("not seen before")
    assert "× the largest usual change (" in first
    assert second.endswith("last seen 4 days ago")
    times_usual = float(first.split(": ")[1].split(" ×")[0])
    assert times_usual == pytest.approx(detection.change[1200] / detection.usual[1200], abs=0.05)


@pytest.mark.parametrize(
    ("age", "text"),
    [(0, "1 minute"), (90 * MINUTE, "1 hour"), (3 * DAY, "3 days"), (22 * DAY, "3 weeks")],
)
def test_age_is_in_the_largest_whole_unit(age: int, text: str) -> None:
    assert age_text(age) == text


def test_keen_rule_notifies_more_and_calm_rule_less() -> None:
    times, values = noise(8000, seed=4)
    for row, size in ((2000, 9), (3000, 13), (4000, 20), (5000, 30)):
        values[row] += size
    detection = detect(times, values)
    counts = {
        name: int(np.count_nonzero(notifies(detection.gravity, detection.gravity_before, factor)))
        for name, factor in FACTORS.items()
    }
    assert counts["calm"] <= counts["normal"] <= counts["keen"]
    assert counts["calm"] < counts["keen"]
    assert counts["normal"] == len(notified(detection))
    expected = expected_per_month(times, detection.gravity, detection.gravity_before)
    assert expected is not None
    months = (times[-1] - times[0]) / (30 * DAY)
    assert expected["keen"] * months == pytest.approx(counts["keen"])


def test_no_notifications_are_expected_from_less_than_a_day() -> None:
    assert expected_per_month(np.array([START]), np.ones(1), np.zeros(1)) is None


@given(st.floats(LEAST_ADJUSTMENT, MOST_ADJUSTMENT), st.floats(0, 1e12), st.booleans())
def test_feedback_changes_the_threshold_within_bounds(adjustment: float, gravity: float, is_anomaly: bool) -> None:
    after = adjust(adjustment, gravity, is_anomaly)
    assert LEAST_ADJUSTMENT <= after <= MOST_ADJUSTMENT
    assert after <= adjustment if is_anomaly else after >= adjustment


def test_rejected_notification_does_not_notify_again_at_the_same_gravity() -> None:
    assert not notifies(np.array([2.0]), np.zeros(1), adjust(1.0, 2.0, is_anomaly=False)).any()


def test_values_that_are_not_finite_are_left_out() -> None:
    times, values = noise(1200)
    with_gaps = values.copy()
    with_gaps[::7] = np.nan
    with_gaps[3::7] = np.inf
    finite = np.isfinite(with_gaps)
    detection, expected = detect(times, with_gaps), detect(times[finite], with_gaps[finite])
    np.testing.assert_array_equal(detection.score[finite], expected.score)
    assert (detection.score[~finite] == 0).all()
    detector = Detector()
    step = detector.step(np.array([detector.add(), detector.add()]), times[:2], np.array([np.nan, 1.0]))
    assert (step.score == 0).all()


def test_gap_of_weeks_and_a_new_level_notify_once_at_most() -> None:
    times, values = noise(3000)
    times[1500:] += 30 * DAY
    values[1500:] += 500
    assert len(notified(detect(times, values))) <= 1


def test_constant_for_months_does_not_notify_until_it_changes() -> None:
    times = START + HOUR * np.arange(24 * 90)
    values = np.full(len(times), 45.0)
    values[2000] = 46.0
    assert notified(detect(times, values)) == [2000]


@pytest.mark.slow
def test_10000_series_that_start_together_do_not_notify_and_have_bounded_state() -> None:
    series, rng = 10_000, np.random.default_rng(3)
    detector = Detector(series)
    slots = np.array([detector.add() for _ in range(series)])
    count = 0
    for row in range(24):
        times = np.full(series, START + HOUR * row)
        count += int((detector.step(slots, times, rng.normal(50, 5, series)).score >= NOTIFY_SCORE).sum())
    assert count == 0
    assert RECORD.itemsize <= MAX_STATE_BYTES


BAD: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "huge": lambda rng, count: rng.choice([1e300, -1e300, 0.0], count),
    "mixed": lambda rng, count: 10.0 ** rng.integers(-300, 300, count),
    "not finite": lambda rng, count: rng.choice([np.nan, np.inf, -np.inf, 1.0], count),
    "constant": lambda rng, count: np.full(count, 1e300),
}


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(BAD)), st.integers(1, 400), st.integers(0, 2**32), st.booleans())
def test_bad_input_gets_finite_scores_and_few_notifications(kind: str, count: int, seed: int, forward: bool) -> None:
    rng = np.random.default_rng(seed)
    steps = rng.integers(0 if forward else -DAY, DAY, count)
    times, values = START + np.cumsum(steps), BAD[kind](rng, count)
    detector = Detector()
    slot = detector.add()
    scores = np.array(
        [detector.step(np.array([slot]), times[row : row + 1], values[row : row + 1]).score[0] for row in range(count)]
    )
    assert ((scores >= 0) & (scores <= 1)).all()
    assert (scores >= NOTIFY_SCORE).sum() <= 20
    assert (scores >= MARK_SCORE).sum() <= count
    assert len(detector.dump(slot)) <= MAX_STATE_BYTES


def test_value_outside_the_expected_range_has_not_recovered() -> None:
    times = START + 5 * MINUTE * np.arange(288 * 12)
    values = np.random.default_rng(5).normal(50, 1, len(times))
    values[-100:] += 40  # a new level; the first points are marked, later ones have a low score again
    detector = Detector()
    signal = detect_together(detector, {1: detector.add()}, {1: (times, values)})[1]
    assert signal.breach[-100] and not signal.recovered[-100]
    assert signal.values[-50] < MARK_SCORE and not signal.recovered[-50:-40].any()
    assert signal.recovered[-110:-100].all() and not signal.breach[:-100].any()


@pytest.mark.slow
def test_reset_of_a_counter_does_not_notify_but_a_fall_to_half_does() -> None:
    points = 288 * 20
    times = START + 5 * MINUTE * np.arange(points)
    values = np.cumsum(np.random.default_rng(4).poisson(20, points)).astype(np.float64)
    for reset in (2500, 3500, 4500):
        values[reset:] -= values[reset]
    values[5400:] -= values[5400] / 2
    whole, parts, single = Detector(), Detector(), Detector()
    slots = [detector.add() for detector in (whole, parts, single)]
    detection = whole.run(slots[0], times, values)
    assert notified(detection) == [5400]
    for first in range(0, points, 777):
        part = slice(first, first + 777)
        detection.assign(part, parts.run(slots[1], times[part], values[part]))
    assert notified(detection) == [5400]
    for row in range(points):
        single.step(np.array([slots[2]]), times[row : row + 1], values[row : row + 1])
    assert whole.dump(slots[0]) == parts.dump(slots[1]) == single.dump(slots[2])
