"""The anomaly detector on generated series."""

import re
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.detector.changes import MIN_WEIGHT
from alerts.detector.detector import Detector
from alerts.detector.reasons import TEXTS, reason_text
from alerts.detector.scoring import MARK_SCORE, NOTIFY_SCORE, Detection
from alerts.detector.sensitivity import LEAST_FACTOR
from alerts.detector.state import EARLY, Floats, Ints, InvalidState
from benchmarks.noise import SHAPES, count_alarms

COLUMNS = tuple(column.name for column in fields(Detection))
MINUTE = 60_000_000
DAY = 1440 * MINUTE
START = 1_700_006_400_000_000  # midnight UTC in µs
ROWS_PER_DAY = 288  # one row per five minutes


def generate_daily_series(number: float, seed: int = 1) -> tuple[Ints, Floats]:
    """Return one point per five minutes of a noisy series that is high from 8:00 to 18:00."""
    times = START + 5 * MINUTE * np.arange(int(number * ROWS_PER_DAY))
    hour = times % DAY / DAY * 24
    noise = np.random.default_rng(seed).normal(0, 1, len(times))
    return times, 50 + 30 * np.clip(np.minimum(hour - 8, 18 - hour) * 2, 0, 1) + noise


def detect(times: Ints, values: Floats) -> Detection:
    detector = Detector()
    return detector.run(detector.add(), times, values)


def assert_same(result: Detection, expected: Detection) -> None:
    for column in COLUMNS:
        np.testing.assert_array_equal(getattr(result, column), getattr(expected, column), err_msg=column)


def shift(values: Floats, start: int) -> None:
    values[start:] += 60


def spike(values: Floats, row: int) -> None:
    values[row] += 150


def flat_line(values: Floats, start: int) -> None:
    values[start : start + 72] = values[start]


def variance(values: Floats, start: int) -> None:
    values[start : start + 72] += np.random.default_rng(7).normal(0, 12, 72)


def missing_peak(values: Floats, peak: int) -> None:
    values[peak - 48 : peak + 72] = 50 + np.random.default_rng(7).normal(0, 1, 120)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        (shift, "above|jump up|shift up"),
        (spike, "above|jump up"),
        (flat_line, "no change"),
        (variance, "above|below|jump|drop"),
        (missing_peak, "missing|low for|below|drop"),
    ],
)
@pytest.mark.parametrize("hour", [3, 12])
def test_anomaly_in_a_daily_series_is_marked_with_a_reason(change: Any, pattern: str, hour: int) -> None:
    if change is missing_peak:
        hour = 12
    times, values = generate_daily_series(10)
    start = 8 * ROWS_PER_DAY + hour * 12
    change(values, start)
    detection = detect(times, values)
    first_row = start - 48 if change is missing_peak else start
    marked = first_row + np.flatnonzero(detection.score[first_row : first_row + 120] >= MARK_SCORE)
    texts = [reason_text(int(detection.reason[row])) for row in marked]
    assert any(re.search(pattern, text) for text in texts), texts


@pytest.mark.slow
def test_new_level_notifies() -> None:
    times, values = generate_daily_series(16)
    start = 15 * ROWS_PER_DAY
    shift(values, start)
    detection = detect(times, values)
    assert detection.score[:start].max() < NOTIFY_SCORE
    assert detection.score[start : start + 12].max() >= NOTIFY_SCORE


@pytest.mark.slow
def test_expected_range_follows_the_time_of_day() -> None:
    times, values = generate_daily_series(9)
    detection = detect(times, values)
    last_day = slice(8 * ROWS_PER_DAY, None)
    inside = (values[last_day] >= detection.low[last_day]) & (values[last_day] <= detection.high[last_day])
    assert inside.mean() > 0.95
    noon, midnight = 8 * ROWS_PER_DAY + 144, 8 * ROWS_PER_DAY
    assert detection.low[noon] > detection.high[midnight]


@pytest.mark.slow
def test_stationary_noise_rarely_notifies() -> None:
    _, notifications = count_alarms(interval=300, days=14, series=2, seed=3)
    assert notifications.shape == (len(SHAPES), 2)
    assert notifications.mean() <= 0.7 * 14 / 30
    assert notifications.max() <= 3


@pytest.mark.slow
def test_restored_state_gives_the_same_results() -> None:
    times, values = generate_daily_series(5)
    for cut in (0, 1, EARLY - 1, EARLY, 1000):
        detector, restored = Detector(), Detector(3)
        slot = detector.add()
        first = detector.run(slot, times[:cut], values[:cut])
        state = detector.dump(slot)
        assert len(state) <= 20_000
        restored.add()
        second = restored.run(restored.add(state), times[cut:], values[cut:])
        whole = detect(times, values)
        columns = [np.concatenate([getattr(first, name), getattr(second, name)]) for name in COLUMNS]
        assert_same(Detection(*columns), whole)


def generate_irregular_series(seed: int, points: int, step: int, weekly: bool) -> tuple[Ints, Floats]:
    """Return a series with gaps, a stuck value and outliers, by seed; a step in µs."""
    rng = np.random.default_rng(seed)
    times = START + step * np.cumsum(rng.integers(1, 4, points))
    times[points // 2 :] += DAY * int(rng.integers(0, 60))
    values = 50 + 30 * np.sin(times / DAY * 2 * np.pi) + rng.normal(0, 1, points)
    if weekly:
        values = np.where(times // DAY % 7 > 4, values + 60, values)
    values[points // 3 : points // 3 + 60] = values[points // 3]
    values[rng.integers(0, points, 3)] *= rng.choice([-1e160, 3, 10])
    return times, values


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    points=st.integers(1, 1500),
    step=st.sampled_from([MINUTE, 5 * MINUTE, 30 * MINUTE, 60 * MINUTE]),
    weekly=st.booleans(),
    cuts=st.lists(st.floats(0, 1), max_size=4),
)
def test_run_of_one_series_equals_its_points_one_by_one(
    seed: int, points: int, step: int, weekly: bool, cuts: list[float]
) -> None:
    times, values = generate_irregular_series(seed, points, step, weekly)
    one_by_one, together = Detector(), Detector()
    slot, other_slot = one_by_one.add(), together.add()
    expected = Detection.blank(points)
    for position in range(points):
        point = slice(position, position + 1)
        expected.assign(point, one_by_one.step(np.array([slot]), times[point], values[point]))
    result = Detection.blank(points)
    edges = [0, *sorted(int(cut * points) for cut in cuts), points]
    for first, last in zip(edges[:-1], edges[1:], strict=True):
        part = slice(first, last)
        result.assign(part, together.run(other_slot, times[part], values[part]))
    assert_same(result, expected)
    assert together.dump(other_slot) == one_by_one.dump(slot)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [b"", b"nothing", None, "version", "byte"])
def test_invalid_state_is_rejected(damage: Any) -> None:
    detector = Detector()
    slot = detector.add()
    detector.run(slot, *generate_daily_series(1))
    state = bytearray(detector.dump(slot))
    if damage == "version":
        state[0] += 1
    elif damage == "byte":
        state[5] ^= 1
    elif damage is None:
        state = state[: len(state) // 2]
    else:
        state = bytearray(damage)
    with pytest.raises(InvalidState):
        detector.add(bytes(state))
    assert len(state) <= 20_000


@pytest.mark.slow
def test_reused_slot_starts_empty() -> None:
    detector = Detector(1)
    slot = detector.add()
    detector.run(slot, *generate_daily_series(2, seed=9))
    detector.remove(slot)
    assert detector.add() == slot
    times, values = generate_daily_series(3)
    assert_same(detector.run(slot, times, values), detect(times, values))


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.data())
def test_series_together_equal_each_alone(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, 320), min_size=1, max_size=5))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    series = [
        (START + np.cumsum(rng.integers(0, 20 * MINUTE, length)), rng.normal(0, 10.0 ** rng.integers(-3, 6), length))
        for length in lengths
    ]
    alone = [detect(times, values) for times, values in series]
    together, positions = Detector(), [0] * len(series)
    slots = [together.add() for _ in series]
    results: list[list[tuple[Any, ...]]] = [[] for _ in series]
    while waiting := [number for number, length in enumerate(lengths) if positions[number] < length]:
        batch = [number for number in waiting if rng.random() < 0.8]
        detection = together.step(
            np.array([slots[number] for number in batch], np.int64),
            np.array([series[number][0][positions[number]] for number in batch], np.int64),
            np.array([series[number][1][positions[number]] for number in batch], np.float64),
        )
        for column, number in enumerate(batch):
            results[number].append(tuple(getattr(detection, name)[column] for name in COLUMNS))
            positions[number] += 1
    for number, detection in enumerate(alone):
        columns = (np.array(column) for column in zip(*results[number], strict=True))
        assert_same(Detection(*columns), detection)


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(st.integers(1, 700), st.integers(0, 2**32))
def test_scores_do_not_depend_on_later_points(cut: int, seed: int) -> None:
    times, values = generate_daily_series(3, seed)
    changed_values = values.copy()
    changed_values[cut:] = 1e6
    whole, changed_result = (
        detect(times[: cut + 40], values[: cut + 40]),
        detect(times[: cut + 40], changed_values[: cut + 40]),
    )
    for column in COLUMNS:
        np.testing.assert_array_equal(
            getattr(whole, column)[:cut], getattr(changed_result, column)[:cut], err_msg=column
        )


VALUES = {
    "constant": np.full(600, 45.0),
    "zeros": np.zeros(600),
    "two values": np.arange(600) % 2 * 1.0,
    "huge": np.where(np.arange(600) % 50 == 0, 1.7e308, -1.7e308),
    "tiny": np.where(np.arange(600) < 300, np.arange(600) * 5e-324, 1e300),
    "constant, then changed": np.where(np.arange(600) < 400, 3.0, 4.0),
    "growing": 1.01 ** np.arange(600),
}
TIMES = {
    "five minutes": START + 5 * MINUTE * np.arange(600),
    "same time": np.full(600, START),
    "backwards": START - 7 * MINUTE * np.arange(600),
    "with gaps": START + np.cumsum(np.where(np.arange(600) % 90 == 0, 9 * DAY, 10 * MINUTE)),
    "before 1970": -START + 5 * MINUTE * np.arange(600),
}


@pytest.mark.slow
@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("values", VALUES)
def test_any_values_get_finite_scores(values: str, times: str) -> None:
    detection = detect(TIMES[times], VALUES[values])
    assert ((detection.score >= 0) & (detection.score <= 1)).all()
    assert np.isfinite(detection.gravity).all()
    known = slice(MIN_WEIGHT * 2, None)
    assert np.isfinite(detection.low[known]).all()
    assert (detection.low[known] <= detection.high[known]).all()
    assert (detection.reason[detection.score >= MARK_SCORE] > 0).all()
    calm = (detection.score < MARK_SCORE) & (detection.gravity < LEAST_FACTOR)
    assert (detection.reason[calm] == 0).all()


@pytest.mark.slow
def test_constant_series_is_marked_only_at_changes() -> None:
    values = np.full(900, 45.0)
    times = START + 5 * MINUTE * np.arange(900)
    assert (detect(times, values).score < MARK_SCORE).all()
    values[700] = 46
    assert detect(times, values).score[700] >= MARK_SCORE


def test_each_reason_has_a_text() -> None:
    assert reason_text(0) == ""
    assert [reason_text(1 + number) for number in range(2 * len(TEXTS))] == [text for pair in TEXTS for text in pair]
