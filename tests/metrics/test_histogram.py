"""Arithmetic of statistics: percentiles, rates and largest counts."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.statistics.histogram import (
    count_by_type,
    largest_counts,
    last_day_hours,
    percentile,
    points_per_minute,
    ratio,
    top_metrics,
)
from rest.request_stats import LATENCIES, latency_class


@pytest.mark.slow
@given(st.lists(st.floats(0.00011, 25.0), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99]))
def test_histogram_percentile_is_within_20_percent(latencies: list[float], fraction: float) -> None:
    counts = [0] * (len(LATENCIES) + 1)
    for latency in latencies:
        counts[latency_class(latency)] += 1
    exact = sorted(latencies)[max(0, int(np.ceil(fraction * len(latencies))) - 1)]
    estimate = percentile(counts, fraction)
    assert estimate is not None and exact / 1.21 <= estimate <= exact * 1.21


def test_empty_histogram_has_no_percentile_and_zero_rate() -> None:
    assert percentile([0] * (len(LATENCIES) + 1), 0.95) is None
    assert (ratio(1, 0), points_per_minute({5: 0}, datetime.now(UTC)), top_metrics({"a": 0})) == (0.0, 0.0, [])


def test_points_per_minute_start_at_the_first_hour_with_points() -> None:
    now = datetime.fromtimestamp(100 * 3600 + 1800, UTC)
    assert points_per_minute({98: 0, 99: 60, 100: 30}, now) == 1.0
    assert points_per_minute({100: 30}, now) == 1.0


def test_largest_counts_are_named_and_the_rest_summed_as_other() -> None:
    assert largest_counts({"a": 1, "b": 5, "c": 3, "d": 1}, 2) == {"b": 5, "c": 3, "other": 2}
    assert top_metrics({"a": 1, "b": 5, "c": 5}, 2) == [{"name": "b", "points": 5}, {"name": "c", "points": 5}]
    assert count_by_type(["x", "x", "z"], ["x", "y"]) == {"x": 2, "y": 0, "z": 1}
    assert list(last_day_hours(30)) == list(range(7, 31))
