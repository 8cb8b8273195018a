"""The fast path and the slow path of the JSON decoders give the same Batch."""

import base64
import gzip
import json
from datetime import UTC, datetime, timedelta

import lz4.frame
import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ingest.wire import telemetry_json
from ingest.wire.batch import Batch, RequestRejected
from ingest.wire.compression import decompress
from ingest.wire.times import parse_time, parse_times

LIMIT = 1 << 20
moments = st.datetimes(datetime(1970, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC))
stamps = st.one_of(
    moments.map(lambda m: m.strftime("%Y-%m-%dT%H:%M:%SZ").zfill(20)),
    moments.map(lambda m: m.isoformat()),
    moments.map(lambda m: m.isoformat(timespec="milliseconds").replace("+00:00", "Z")),
    st.sampled_from(
        ["2026-01-31T12:00:00+05:30", "2026-01-31", "2026-02-30T00:00:00Z", "now", "", "2026-01-31T12:00:00"]
    ),
)
names = st.one_of(st.sampled_from(["temperature", "cpu", "µ", "a\u0000b", ""]), st.text(max_size=5))
values = st.one_of(
    st.floats(),
    st.integers(-(2**60), 2**60),
    st.booleans(),
    st.text(max_size=5),
    st.none(),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
optional_fields = st.fixed_dictionaries(
    {},
    optional={
        "unit": st.one_of(st.none(), st.sampled_from(["celsius", "%"]), st.integers()),
        "tags": st.one_of(st.none(), st.dictionaries(st.text(max_size=3), st.integers(0, 3), max_size=2)),
        "metadata": st.one_of(st.none(), st.just([]), st.just({"a": None})),
        "other": st.integers(),
    },
)
points = st.builds(
    lambda stamp, name, value, more: {"timestamp": stamp, "metric_name": name, "value": value} | more,
    stamps,
    names,
    values,
    optional_fields,
)


def batch_content(batch: Batch) -> list[object]:
    content: list[object] = []
    for group in batch.groups:
        for index in range(group.start, group.stop):
            entry = b"" if batch.contexts is None else batch.dictionary[batch.contexts[index]]
            content.append((group.device_id, batch.metrics[index], int(batch.times[index]), batch.values[index], entry))
    return [*content, *batch.rejected]


def select_path(monkeypatch: pytest.MonkeyPatch, off: bool) -> None:
    for name in ("_SINGLE", "_BATCH", "_BULK"):
        if off:
            monkeypatch.setattr(telemetry_json, name, ())


def decode_result(decode, *arguments):
    try:
        return batch_content(decode(*arguments))
    except RequestRejected as error:
        return (error.status, error.detail)


def is_valid_name(text: str) -> bool:
    """Return whether the pipeline accepts a name; for other names the two paths may differ."""
    return bool(text) and not text.isspace() and text.isprintable()


@pytest.mark.slow
@given(st.lists(points, max_size=6))
def test_fast_path_and_slow_path_agree_on_batches(rows):
    body = json.dumps({"data_points": rows, "batch_id": "b"}).encode()
    with pytest.MonkeyPatch.context() as patch:
        fast_result = decode_result(telemetry_json.decode_batch, body, "d", LIMIT)
        select_path(patch, off=True)
        slow_result = decode_result(telemetry_json.decode_batch, body, "d", LIMIT)
    if all(is_valid_name(row["metric_name"]) for row in rows):
        assert fast_result == slow_result


@pytest.mark.slow
@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.lists(points, max_size=3), max_size=3))
def test_fast_path_and_slow_path_agree_on_bulk(devices):
    body = json.dumps(devices).encode()
    with pytest.MonkeyPatch.context() as patch:
        fast_result = decode_result(telemetry_json.decode_bulk, body)
        select_path(patch, off=True)
        slow_result = decode_result(telemetry_json.decode_bulk, body)
    if all(is_valid_name(row["metric_name"]) for rows in devices.values() for row in rows):
        assert fast_result == slow_result


VALID_CONTEXTS = (
    "",
    ', "unit": "%"',
    ', "unit": null, "tags": null',
    ', "unit": "%", "tags": {"room": "a"}',
    ', "unit": "%", "tags": { "room": "a" }',
    ', "tags": {}, "metadata": {"n": [1, null, "b"]}',
)
INVALID_CONTEXTS = (
    ', "unit": "' + "m" * 65 + '"',
    ', "tags": {"room": "a", "room": "a"}',
    ', "tags": {"room": "a"}, "tags": {"room": "a"}',
    ', "tags": ["room"]',
    ', "metadata": {"n": 9007199254740993}',
)


def batch_of_contexts(contexts: list[str]) -> bytes:
    rows = [f'{{"timestamp": "2026-01-31T12:00:00Z", "metric_name": "t", "value": 1{context}}}' for context in contexts]
    return f'{{"data_points": [{", ".join(rows)}]}}'.encode()


@pytest.mark.slow
@given(st.lists(st.sampled_from(VALID_CONTEXTS + INVALID_CONTEXTS), min_size=1, max_size=6))
def test_fast_path_and_slow_path_agree_on_repeated_contexts(contexts):
    body = batch_of_contexts(contexts)
    with pytest.MonkeyPatch.context() as patch:
        fast_result = decode_result(telemetry_json.decode_batch, body, "d", LIMIT)
        select_path(patch, off=True)
        assert fast_result == decode_result(telemetry_json.decode_batch, body, "d", LIMIT)


@given(st.lists(st.sampled_from(VALID_CONTEXTS), min_size=1, max_size=6))
def test_batch_of_valid_contexts_takes_the_fast_path(contexts):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(telemetry_json, "parse_document", pytest.fail)
        batch = telemetry_json.decode_batch(batch_of_contexts(contexts), "d", LIMIT)
    assert len(batch_content(batch)) == len(contexts)


@given(st.binary(max_size=200))
def test_decoders_survive_any_bytes(body):
    for decode, arguments in (
        (telemetry_json.decode_single, ("d",)),
        (telemetry_json.decode_batch, ("d", LIMIT)),
        (telemetry_json.decode_bulk, ()),
    ):
        decode_result(decode, body, *arguments)


def test_duplicate_device_in_a_bulk_request_is_rejected():
    point_text = '{"timestamp":"2026-01-31T12:00:00Z","metric_name":"t","value":1}'
    with pytest.raises(RequestRejected, match="twice"):
        telemetry_json.decode_bulk(f'{{"a":[{point_text}],"a":[{point_text}]}}'.encode())


@pytest.mark.slow
@given(st.lists(moments, min_size=1, max_size=200), st.sampled_from(["seconds", "milliseconds", "microseconds"]))
def test_times_parsed_as_a_matrix_match_times_parsed_one_by_one(given_moments, precision):
    texts = [m.isoformat(timespec=precision).replace("+00:00", "Z") for m in given_moments]
    assert parse_times(texts).tolist() == [parse_time(text) for text in texts]


def test_leap_days_and_month_ends_are_validated():
    valid_times = [(datetime(2024, 1, 1) + timedelta(days=d)).strftime("%Y-%m-%dT00:00:00Z") for d in range(366)]
    assert np.diff(parse_times(valid_times)).tolist() == [86_400_000_000] * 365
    with pytest.raises(ValueError):
        parse_times([*valid_times, "2023-02-29T00:00:00Z"])


@pytest.mark.parametrize("coding", ["gzip", "zstd", "lz4"])
def test_compression_field_of_a_batch_decompresses_its_points(coding):
    compress = {"gzip": gzip.compress, "zstd": zstandard.compress, "lz4": lz4.frame.compress}[coding]
    rows = [{"timestamp": "2026-01-31T12:00:00Z", "metric_name": "t", "value": n} for n in range(3)]
    compressed = base64.b64encode(compress(json.dumps(rows).encode())).decode()
    body = json.dumps({"data_points": compressed, "compression": coding}).encode()
    assert telemetry_json.decode_batch(body, "d", LIMIT).values.tolist() == [0.0, 1.0, 2.0]
    body = json.dumps({"data_points": rows, "compression": coding}).encode()
    assert len(telemetry_json.decode_batch(body, "d", LIMIT)) == 3


@pytest.mark.parametrize("coding", ["gzip", "zstd", "lz4", "deflate"])
def test_decompression_bomb_stops_at_the_size_limit(coding):
    import zlib

    compress = {"gzip": gzip.compress, "zstd": zstandard.compress, "lz4": lz4.frame.compress, "deflate": zlib.compress}[
        coding
    ]
    with pytest.raises(RequestRejected) as raised:
        decompress(compress(b"0" * (8 * LIMIT)), coding, LIMIT)
    assert raised.value.status == 413
    compressed = compress(b"x" * 1000)
    assert decompress(compressed, coding, LIMIT) == b"x" * 1000
    with pytest.raises(RequestRejected) as raised:
        decompress(compressed[:-6], coding, LIMIT)
    assert raised.value.status == 400
