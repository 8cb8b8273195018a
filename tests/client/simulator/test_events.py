"""The order of arrival: nothing is lost or repeated, late batches arrive together, memory is bounded."""

import tracemalloc
from collections import Counter
from itertools import chain, pairwise

import numpy as np
import pytest

from telemetry_client.simulator.drivers import DAY, HOUR, MINUTE, WEEK
from telemetry_client.simulator.events import Arrival, arrivals
from telemetry_client.simulator.fleet import Fleet
from telemetry_client.simulator.schedule import Disturbance, Rates

START = 1_790_000_000_000
DISTURBED = Rates(faults=1, outages=2, offline=4, clock_errors=0.5)
Points = Counter[tuple[str, str, int]]


def points_of(found: list[Arrival]) -> Points:
    return Counter(
        (arrival.device.device_id, column.metric.name, time)
        for arrival in found
        for column in arrival.columns
        for time in column.true_times.tolist()
    )


@pytest.mark.slow
@pytest.mark.parametrize("send_every", [5 * MINUTE, HOUR])
def test_every_measured_point_arrives_once(send_every: int) -> None:
    fleet = Fleet(4, 8, 300, rates=DISTURBED)
    arrived = points_of(list(arrivals(fleet, START - WEEK, START + 2 * WEEK, send_every)))
    assert max(arrived.values()) == 1
    measured = {
        (device.device_id, column.metric.name, time)
        for device in fleet.devices
        for column in device.columns(START, START + WEEK)
        for time in column.true_times.tolist()
    }
    assert measured <= arrived.keys()


@pytest.mark.slow
def test_arrivals_are_in_order_and_not_before_their_measurements() -> None:
    fleet = Fleet(4, 8, 300, rates=DISTURBED)
    found = list(arrivals(fleet, START, START + WEEK))
    assert all(first.at <= second.at for first, second in pairwise(found))
    assert all(column.true_times[-1] < arrival.at for arrival in found for column in arrival.columns)


@pytest.mark.slow
def test_points_of_an_offline_period_arrive_together_after_it() -> None:
    fleet = Fleet(9, 8, 60, rates=Rates(faults=0, outages=0, offline=3, clock_errors=0))
    found = list(arrivals(fleet, START, START + WEEK))
    late = [arrival for arrival in found if arrival.is_late]
    assert len(late) > 5
    for arrival in late:
        measured = arrival.columns[0].true_times
        labels = arrival.device.labels(int(measured[0]), arrival.at)
        [offline] = [label for label in labels if label.kind is Disturbance.OFFLINE]
        assert offline.end <= arrival.at <= offline.end + 2 * MINUTE
        assert measured[0] <= offline.start + MINUTE
        assert np.diff(measured).tolist() == [MINUTE] * (len(measured) - 1)
        others = [other for other in found if other.device is arrival.device]
        assert not any(offline.start <= other.at < offline.end for other in others)


@pytest.mark.slow
def test_consecutive_ranges_yield_what_one_range_does() -> None:
    fleet = Fleet(4, 5, 300, rates=DISTURBED)
    bounds = [START, START + 1, START + HOUR + 123, START + DAY, START + DAY + 777_777, START + 4 * DAY]
    pieces = chain.from_iterable(arrivals(fleet, low, high) for low, high in pairwise(bounds))
    whole = arrivals(fleet, bounds[0], bounds[-1])
    for piece, expected in zip(pieces, whole, strict=True):
        assert (piece.at, piece.device, piece.is_late) == (expected.at, expected.device, expected.is_late)
        assert [column.values.tolist() for column in piece.columns] == [
            column.values.tolist() for column in expected.columns
        ]


def test_send_period_that_is_no_multiple_of_the_interval_is_refused() -> None:
    with pytest.raises(ValueError, match="send_every must be a multiple of the interval of 60 seconds"):
        next(arrivals(Fleet(), START, START + DAY, 90_000))


@pytest.mark.slow
def test_long_range_is_generated_in_bounded_memory() -> None:
    fleet = Fleet(1, 100, 60)
    found = arrivals(fleet, START, START + 365 * DAY, HOUR)
    tracemalloc.start()
    points = 0
    for arrival in found:
        points += len(arrival)
        if points > 3_000_000:
            break
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60e6
