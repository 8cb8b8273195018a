"""Encoding and decoding of columns."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from metrics.storage.format.codec import Columns, DamagedPayload, arrange_points, concatenate, decode, encode

times = st.integers(-(2**52), 2**52)
points = st.lists(
    st.tuples(st.integers(1, 40), times, st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 2)),
    min_size=1,
)
DICTIONARY = [b"", b'["celsius"]', b'["",{"room":"1"},{}]']


def columns_of(rows: list[tuple[int, int, float, int]], texts: bool = False) -> Columns:
    values = np.empty(len(rows), object if texts else np.float64)
    values[:] = [repr(row[2]).encode() if texts else row[2] for row in rows]
    series = np.array([row[0] for row in rows], np.int64)
    moments = np.array([row[1] for row in rows], np.int64)
    contexts = np.array([row[3] for row in rows], np.int32)
    return arrange_points(series, moments, values, contexts, DICTIONARY)


def as_dictionary(parts: list[Columns]) -> dict[tuple[int, int], tuple[object, bytes]]:
    points_by_series_and_time = {}
    for part in parts:
        entries = part.dictionary if part.contexts is not None else [b""]
        contexts = part.contexts if part.contexts is not None else np.zeros(len(part), int)
        for series, time, value, context in zip(part.series(), part.times, part.values, contexts, strict=True):
            points_by_series_and_time[int(series), int(time)] = (value, entries[context])
    return points_by_series_and_time


@pytest.mark.slow
@given(points, st.booleans(), st.booleans())
def test_encoded_points_are_decoded_with_the_last_value_of_each_key(rows, texts, dense):
    expected = {
        (series, time): (repr(value).encode() if texts else value, DICTIONARY[context])
        for series, time, value, context in rows
    }
    assert as_dictionary(decode(encode([columns_of(rows, texts)], dense))) == expected


@pytest.mark.slow
@given(points, points)
def test_concatenation_keeps_the_values_of_later_columns(first, second):
    expected = {(s, t): (v, DICTIONARY[c]) for s, t, v, c in [*first, *second]}
    assert as_dictionary([concatenate([columns_of(first), columns_of(second)])]) == expected


@pytest.mark.slow
@given(points, st.data())
def test_slice_of_points_keeps_their_series(rows, data):
    columns = columns_of(rows)
    low = data.draw(st.integers(0, len(columns) - 1))
    high = data.draw(st.integers(low + 1, len(columns)))
    part = columns.points(low, high)
    assert part.series().tolist() == columns.series()[low:high].tolist()
    assert part.offsets[-1] == high - low and (np.diff(part.offsets) > 0).all()


@pytest.mark.slow
@given(arrays(np.float64, st.integers(1, 5000), elements=st.floats(width=64)))
def test_floats_are_restored_bit_for_bit(values):
    n = len(values)
    columns = arrange_points(np.full(n, 7), np.arange(n, dtype=np.int64), values)
    [decoded] = decode(encode([columns]))
    assert decoded.values.tobytes() == values.tobytes()


def test_damaged_payload_raises():
    payload = bytearray(encode([columns_of([(1, 1, 1.0, 0)])]))
    payload[len(payload) // 2] ^= 1
    with pytest.raises(DamagedPayload):
        decode(bytes(payload))


def test_day_of_one_series_at_ten_second_interval_takes_under_one_byte_per_point():
    rng = np.random.default_rng(1)
    values = np.round(20 + np.cumsum(rng.choice([-0.0625, 0, 0, 0, 0.0625], 8640)), 2)
    columns = arrange_points(np.full(8640, 1), np.arange(8640, dtype=np.int64) * 10_000_000, values)
    assert len(encode([columns], dense=True)) / 8640 < 1.0


def long_columns(contexts: bool = False) -> Columns:
    """Five series: a counter, a copy of it, a random walk at irregular times, a constant, and a short series."""
    rng = np.random.default_rng(3)
    ticks = np.arange(600, dtype=np.int64) * 10_000_000
    counter, walk = np.cumsum(rng.integers(0, 9999, 600)).astype(float), np.round(np.cumsum(rng.normal(0, 1, 600)), 2)
    series_rows = [
        (3, ticks, counter),
        (4, ticks, counter),
        (7, ticks + rng.integers(0, 5_000_000, 600), walk),
        (8, ticks, np.full(600, -0.0)),
        (90, ticks[:2], counter[:2]),
    ]
    times = np.concatenate([row[1] for row in series_rows])
    return Columns(
        np.array([row[0] for row in series_rows]),
        np.cumsum([0, *(len(row[1]) for row in series_rows)]),
        times,
        np.concatenate([row[2] for row in series_rows]),
        rng.integers(0, 3, len(times)).astype(np.int32) if contexts else None,
        DICTIONARY if contexts else (),
    )


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("contexts", [True, False])
def test_decoding_selected_long_series_returns_only_them(contexts, dense):
    columns = long_columns(contexts)
    payload, expected = encode([columns], dense), as_dictionary([columns])
    assert as_dictionary(decode(payload)) == expected
    for selected in ([3], [4], [7, 90], [1, 4, 8, 99], [3, 4, 7, 8, 90]):
        expected_points = {key: point for key, point in expected.items() if key[0] in selected}
        assert as_dictionary(decode(payload, np.array(selected))) == expected_points
    assert decode(payload, np.array([1, 5, 91])) == []


def test_decoding_selected_short_series_or_texts_returns_the_whole_part():
    rows = [(series, time, 1.5, 0) for series in range(5) for time in range(10)]
    for texts in (True, False):
        columns = columns_of(rows, texts)
        assert as_dictionary(decode(encode([columns]), np.array([2]))) == as_dictionary([columns])


@pytest.mark.parametrize("dense", [True, False])
def test_long_series_encoded_in_the_old_format_are_decoded(dense, monkeypatch):
    columns = long_columns(contexts=True)
    monkeypatch.setattr(
        "metrics.storage.format.codec.PER_SERIES_MIN_POINTS", 10**9
    )  # as in old payloads, which did not encode series separately
    payload = encode([columns], dense)
    monkeypatch.undo()
    assert len(payload) > 1.2 * len(encode([columns], dense))
    assert as_dictionary(decode(payload)) == as_dictionary(decode(payload, np.array([7]))) == as_dictionary([columns])
