"""Thinning of points for the detector: bounded, in order, and without losing the extreme ones."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alerts.history.replay import thin

SECOND = 1_000_000


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.integers(1, 10**9), st.floats(-1e300, 1e300)), min_size=1, max_size=100), st.integers(1, 50)
)
def test_thinned_points_are_points_in_order_and_at_most_as_many_as_allowed(points, limit):
    gaps, values = (np.array(column) for column in zip(*points, strict=True))
    columns = np.cumsum(gaps), values
    thinned_times, thinned_values = thin(*columns, limit)
    assert 1 <= len(thinned_times) <= limit
    assert (np.diff(thinned_times) > 0).all()
    positions = columns[0].searchsorted(thinned_times)
    assert (columns[0][positions] == thinned_times).all() and (values[positions] == thinned_values).all()


def test_a_spike_of_one_point_stays():
    times, values = np.arange(100_000) * SECOND, np.random.default_rng(1).normal(0, 1, 100_000)
    values[54_321] = 25.0
    thinned_times, thinned_values = thin(times, values, 1_000)
    assert 900 <= len(thinned_times) <= 1_000
    assert thinned_values.max() == 25.0 and thinned_times[thinned_values.argmax()] == 54_321 * SECOND


def test_fewer_points_than_the_limit_are_all_kept():
    times, values = np.arange(10) * SECOND, np.arange(10.0)
    assert thin(times, values, 10)[0] is times and thin(times, values, None)[1] is values
