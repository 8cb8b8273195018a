"""The simulated fleet: determinism, ranges, and labels that agree with the values."""

from itertools import pairwise

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from telemetry_client.simulator.device_types import DEVICE_TYPES, TYPE_NAMES, ValueKind
from telemetry_client.simulator.drivers import DAY, HOUR, MINUTE, WEEK
from telemetry_client.simulator.fleet import Column, Device, Fleet, Label
from telemetry_client.simulator.schedule import Disturbance, Rates

START = 1_790_000_000_000
MANY_FAULTS = Rates(faults=6, outages=0, offline=0, clock_errors=0)
NO_FAULTS = Rates(faults=0, outages=0, offline=0, clock_errors=0)
ALL_DISTURBED = Rates(faults=4, outages=3, offline=3, clock_errors=1)


def columns_of(device: Device, start: int = START, length: int = WEEK) -> dict[str, Column]:
    return {column.metric.name: column for column in device.columns(start, start + length)}


def within(column: Column, label: Label) -> np.ndarray:
    return column.values[(column.times >= label.start) & (column.times < label.end)]


def at_limit(column: Column, values: np.ndarray) -> np.ndarray:
    """Return which values are at an end of the sensor's range, which hides the size of a fault."""
    return np.isin(values, (column.metric.low, column.metric.high))


def labelled(kind: Disturbance, fleet: Fleet) -> list[tuple[Label, Column, Column]]:
    """Return the complete faults of a kind, with the points and those of the same device without faults."""
    found = []
    for device in fleet.devices:
        faultless = Fleet(fleet.seed, fleet.size, fleet.interval, rates=NO_FAULTS).device(device.number)
        labels = [label for label in device.labels(START, START + WEEK) if label.kind is kind]
        for label in labels:
            if label.start >= START and label.end <= START + WEEK:
                assert label.metric_name is not None
                points, clean = columns_of(device), columns_of(faultless)
                found.append((label, points[label.metric_name], clean[label.metric_name]))
    assert found
    return found


@pytest.fixture(scope="module")
def faulty() -> Fleet:
    return Fleet(3, 25, 300, rates=MANY_FAULTS)


def test_same_seed_gives_the_same_devices_and_points() -> None:
    for first, second in zip(Fleet(7, 6, rates=ALL_DISTURBED).devices, Fleet(7, 9, rates=ALL_DISTURBED).devices):  # noqa: B905 - the second fleet is larger
        assert (first.device_id, first.name, first.metadata, first.position) == (
            second.device_id, second.name, second.metadata, second.position,
        )  # fmt: skip
        for one, two in zip(first.columns(START, START + DAY), second.columns(START, START + DAY), strict=True):
            assert one.times.tobytes() == two.times.tobytes()
            assert one.values.tolist() == two.values.tolist()


def test_another_seed_gives_other_values() -> None:
    first, second = (columns_of(Fleet(seed, 1).device(0), length=HOUR)["flow"] for seed in (1, 2))
    assert first.values.tolist() != second.values.tolist()


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(0, len(DEVICE_TYPES) - 1),
    st.sampled_from([0.5, 10, 60, 300]),
    st.lists(st.integers(0, 3000), min_size=1, max_size=6),
    st.integers(0, 50 * 365 * DAY),
)
def test_points_do_not_depend_on_the_pieces_they_are_generated_in(
    seed: int, number: int, interval: float, lengths: list[int], start: int
) -> None:
    device = Fleet(seed, 10, interval, rates=ALL_DISTURBED).device(number)
    bounds = np.cumsum([start, *(round(length * interval * 137) for length in lengths)]).tolist()
    whole = device.columns(bounds[0], bounds[-1])
    pieces: dict[str, list[Column]] = {}
    for low, high in pairwise(bounds):
        for column in device.columns(low, high):
            pieces.setdefault(column.metric.name, []).append(column)
    for column in whole:
        parts = pieces[column.metric.name]
        assert np.concatenate([part.times for part in parts]).tolist() == column.times.tolist()
        assert np.concatenate([part.values for part in parts]).tolist() == column.values.tolist()


def test_every_type_has_values_within_the_range_of_its_sensors(faulty: Fleet) -> None:
    for device in faulty.devices[: len(TYPE_NAMES)]:
        for column in columns_of(device).values():
            metric = column.metric
            if metric.kind is ValueKind.TEXT:
                assert set(column.values.tolist()) <= set(metric.texts)
            elif metric.kind is ValueKind.BOOLEAN:
                assert column.values.dtype == bool
            else:
                assert np.isfinite(column.values).all()
                assert metric.low is None or column.values.min() >= metric.low
                assert metric.high is None or column.values.max() <= metric.high


def test_metrics_of_one_name_have_one_kind_and_unit() -> None:
    kinds: dict[str, tuple[object, ...]] = {}
    for device_type in DEVICE_TYPES:
        for metric in device_type.metrics:
            assert kinds.setdefault(metric.name, (metric.kind, metric.unit)) == (metric.kind, metric.unit)


def test_load_follows_the_day_and_the_week() -> None:
    device = Fleet(5, 5, 600, rates=NO_FAULTS).device(TYPE_NAMES.index("server"))
    usage = columns_of(device, length=4 * WEEK)["cpu_usage"]
    day = (usage.true_times - 4 * DAY) // DAY % 7
    hour = usage.true_times % DAY // HOUR
    at_work, at_weekend = usage.values[(day < 5) & (hour == 12)], usage.values[(day >= 5) & (hour == 12)]
    at_night = usage.values[(day < 5) & (hour == 2)]
    assert at_work.mean() > 1.5 * at_weekend.mean() > 1.5 * at_night.mean()


def test_noise_is_autocorrelated() -> None:
    device = Fleet(5, 5, 60, rates=NO_FAULTS).device(TYPE_NAMES.index("weather-station"))
    pressure = columns_of(device)["air_pressure"].values
    steps = np.diff(pressure)
    assert pressure.std() > 20 * steps.std() > 0


def test_stuck_value_does_not_change(faulty: Fleet) -> None:
    for label, column, clean in labelled(Disturbance.STUCK, faulty):
        values = within(column, label)
        assert len(values) >= 12
        assert len(set(values.tolist())) == 1
        assert values[0] == within(clean, label)[0]


def test_spike_is_far_from_the_value_without_the_fault(faulty: Fleet) -> None:
    for label, column, clean in labelled(Disturbance.SPIKE, faulty):
        spike, usual = within(column, label), within(clean, label)
        assert 1 <= len(spike) <= 3
        assert (at_limit(column, spike) | (np.abs(spike - usual) > 3 * clean.values.std())).all()


def test_level_shift_moves_all_values_by_the_same_amount(faulty: Fleet) -> None:
    for label, column, clean in labelled(Disturbance.LEVEL_SHIFT, faulty):
        values, usual = within(column, label), within(clean, label)
        differences = (values - usual)[~at_limit(column, values) & ~at_limit(column, usual)]
        assert not len(differences) or np.ptp(differences) <= 2.1 * 10.0**-column.metric.decimals


def test_drift_grows_from_nothing(faulty: Fleet) -> None:
    for label, column, clean in labelled(Disturbance.DRIFT, faulty):
        values, usual = within(column, label), within(clean, label)
        sizes = np.abs(values - usual)
        if not at_limit(column, values).any() and not at_limit(column, usual).any():
            assert sizes[0] <= sizes.max() / 20 + 10.0**-column.metric.decimals
            assert (np.diff(sizes) >= -2.1 * 10.0**-column.metric.decimals).all()


def test_values_outside_of_labels_are_those_without_faults(faulty: Fleet) -> None:
    for device in faulty.devices[:10]:
        faultless = columns_of(Fleet(faulty.seed, faulty.size, faulty.interval, rates=NO_FAULTS).device(device.number))
        labels = [label for label in device.labels(START, START + WEEK) if label.metric_name]
        for name, column in columns_of(device).items():
            is_labelled = np.zeros(len(column), bool)
            for label in labels:
                if label.metric_name == name:
                    is_labelled |= (column.times >= label.start) & (column.times < label.end)
            assert column.values[~is_labelled].tolist() == faultless[name].values[~is_labelled].tolist()


def test_counters_fall_at_labelled_restarts_only() -> None:
    rates = Rates(faults=0, outages=2, offline=0, clock_errors=0)
    falls = 0
    for device in Fleet(11, 10, 60, rates=rates).devices:
        labels = list(device.labels(START - WEEK, START + 2 * WEEK))
        restarts = np.array([label.start for label in labels if label.kind is Disturbance.RESTART])
        for column in columns_of(device, length=2 * WEEK).values():
            if column.metric.kind is not ValueKind.COUNTER:
                continue
            for at in np.flatnonzero(np.diff(column.values) < 0).tolist():
                falls += 1
                assert ((restarts > column.times[at]) & (restarts <= column.times[at + 1])).any()
    assert falls > 20


def test_device_in_an_outage_measures_nothing_and_then_restarts() -> None:
    fleet = Fleet(11, 10, 60, rates=Rates(faults=0, outages=2, offline=0, clock_errors=0))
    outages = 0
    for device in fleet.devices:
        for label in device.labels(START, START + WEEK):
            if label.kind is Disturbance.OUTAGE:
                outages += 1
                for column in columns_of(device).values():
                    assert not len(within(column, label))
    assert outages > 5


def test_clock_error_moves_times_by_less_than_sites_accept() -> None:
    device = Fleet(2, 1, 60, rates=Rates(faults=0, outages=0, offline=0, clock_errors=1)).device(0)
    column = columns_of(device)["flow"]
    errors = column.times - column.true_times
    assert 0 < np.abs(errors).max() < 4 * MINUTE
    assert len(set(errors.tolist())) > 1000  # it drifts


def test_device_without_clock_error_shows_the_true_time() -> None:
    column = columns_of(Fleet(2, 1, 60, rates=NO_FAULTS).device(0))["flow"]
    assert column.times.tolist() == column.true_times.tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "devices must be 1 to"),
        ({"interval": 0.01}, "interval must be 0.1 to"),
        ({"types": ("pump", "car")}, "'car' is unknown; accepted are pump, "),
        ({"types": ()}, "types must name"),
    ],
)
def test_number_out_of_range_is_refused_with_the_accepted_values(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Fleet(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"), [({"faults": -1}, "faults must be 0 to"), ({"clock_errors": 2}, "clock_errors must be")]
)
def test_rate_out_of_range_is_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rates(**arguments)
