"""Columns to bytes and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from metrics.storage.codec import Columns, DamagedPayload, arrange, concatenate, decode, encode

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
    return arrange(series, moments, values, contexts, DICTIONARY)


def as_dictionary(parts: list[Columns]) -> dict[tuple[int, int], tuple[object, bytes]]:
    found = {}
    for part in parts:
        entries = part.dictionary if part.contexts is not None else [b""]
        contexts = part.contexts if part.contexts is not None else np.zeros(len(part), int)
        for series, time, value, context in zip(part.series(), part.times, part.values, contexts, strict=True):
            found[int(series), int(time)] = (value, entries[context])
    return found


@given(points, st.booleans(), st.booleans())
def test_what_is_encoded_comes_back_and_the_last_value_of_a_key_wins(rows, texts, dense):
    expected = {
        (series, time): (repr(value).encode() if texts else value, DICTIONARY[context])
        for series, time, value, context in rows
    }
    assert as_dictionary(decode(encode([columns_of(rows, texts)], dense))) == expected


@given(points, points)
def test_later_columns_win_when_columns_are_concatenated(first, second):
    expected = {(s, t): (v, DICTIONARY[c]) for s, t, v, c in [*first, *second]}
    assert as_dictionary([concatenate([columns_of(first), columns_of(second)])]) == expected


@given(points, st.data())
def test_a_stretch_of_points_keeps_its_series(rows, data):
    whole = columns_of(rows)
    low = data.draw(st.integers(0, len(whole) - 1))
    high = data.draw(st.integers(low + 1, len(whole)))
    part = whole.points(low, high)
    assert part.series().tolist() == whole.series()[low:high].tolist()
    assert part.offsets[-1] == high - low and (np.diff(part.offsets) > 0).all()


@given(arrays(np.float64, st.integers(1, 5000), elements=st.floats(width=64)))
def test_every_float_survives_to_the_bit(values):
    n = len(values)
    columns = arrange(np.full(n, 7), np.arange(n, dtype=np.int64), values)
    [found] = decode(encode([columns]))
    assert found.values.tobytes() == values.tobytes()


def test_a_damaged_payload_is_noticed():
    payload = bytearray(encode([columns_of([(1, 1, 1.0, 0)])]))
    payload[len(payload) // 2] ^= 1
    with pytest.raises(DamagedPayload):
        decode(bytes(payload))


def test_a_day_of_one_series_at_ten_seconds_takes_about_a_byte_a_point():
    rng = np.random.default_rng(1)
    values = np.round(20 + np.cumsum(rng.choice([-0.0625, 0, 0, 0, 0.0625], 8640)), 2)
    columns = arrange(np.full(8640, 1), np.arange(8640, dtype=np.int64) * 10_000_000, values)
    assert len(encode([columns], dense=True)) / 8640 < 1.0
