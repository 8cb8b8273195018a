"""Invalid input is rejected with the field and what is accepted, and no valid point is lost.

One table, run against the fast lane (with an API key) and Django's views (with a session).
"""

import gzip
import json
import socket
import zlib
from typing import Any

import lz4.frame
import pytest
import zstandard

from tests.conftest import API, ApiClient, point, stamp

SINGLE = "devices/device_001/telemetry"
BATCH = "devices/device_001/telemetry/batch"
BULK = "bulk"
VALID_POINT = point("good", 1.0)


@pytest.fixture(params=["fast lane", "views"])
def caller(request: pytest.FixtureRequest, site: None) -> ApiClient:
    return request.getfixturevalue("admin" if request.param == "fast lane" else "administrator")


def nested_object(levels: int) -> Any:
    document: Any = 1
    for _ in range(levels):
        document = {"a": document}
    return document


def raw_point(**fields: str) -> bytes:
    """Return a point as hand-written JSON, which can contain values that no encoder writes."""
    members = {"timestamp": json.dumps(stamp()), "metric_name": '"m"', "value": "1"} | fields
    return ("{" + ",".join(f'"{name}":{value}' for name, value in members.items()) + "}").encode()


POINTS = {  # invalid points: (point as bytes, field of the error)
    "NaN": (raw_point(value="NaN"), "value"),
    "Infinity": (raw_point(value="Infinity"), "value"),
    "minus Infinity": (raw_point(value="-Infinity"), "value"),
    "1e400": (raw_point(value="1e400"), "value"),
    "an integer past 2^53": (raw_point(value=str(2**53 + 1)), "value"),
    "an integer of 5,000 digits": (raw_point(value="9" * 5000), "value"),
    "NUL in a text": (raw_point(value='"a\\u0000b"'), "value"),
    "NUL in the metric's name": (raw_point(metric_name='"a\\u0000b"'), "metric_name"),
    "NUL in a tag": (raw_point(tags='{"a":"\\u0000"}'), "tags"),
    "half a surrogate pair": (raw_point(value='"\\ud800"'), "value"),
    "an object nested 33 deep": (raw_point(value=json.dumps(nested_object(33))), "value"),
    "null": (raw_point(value="null"), "value"),
    "no value": (b'{"timestamp":' + json.dumps(stamp()).encode() + b',"metric_name":"m"}', "value"),
    "no timestamp": (b'{"metric_name":"m","value":1}', "timestamp"),
    "no metric name": (b'{"timestamp":' + json.dumps(stamp()).encode() + b',"value":1}', "metric_name"),
    "an empty metric name": (raw_point(metric_name='""'), "metric_name"),
    "a metric name of 201 characters": (raw_point(metric_name=json.dumps("m" * 201)), "metric_name"),
    "a metric name that is a number": (raw_point(metric_name="5"), "metric_name"),
    "a line break in a metric name": (raw_point(metric_name='"a\\nb"'), "metric_name"),
    "a naive timestamp": (raw_point(timestamp='"2026-01-31T12:00:00"'), "timestamp"),
    "a timestamp that is a number": (raw_point(timestamp="1700000000"), "timestamp"),
    "a day that does not exist": (raw_point(timestamp='"2026-02-30T12:00:00Z"'), "timestamp"),
    "a date alone": (raw_point(timestamp='"2026-01-31"'), "timestamp"),
    "a timestamp an hour ahead": (raw_point(timestamp=json.dumps(stamp(-3600))), "timestamp"),
    "a timestamp before the retention horizon": (raw_point(timestamp=json.dumps(stamp(91 * 86400))), "timestamp"),
    "the year 1": (raw_point(timestamp='"0001-01-01T00:00:00Z"'), "timestamp"),
    "the year 9999": (raw_point(timestamp='"9999-12-31T23:59:59Z"'), "timestamp"),
    "a unit that is a number": (raw_point(unit="5"), "unit"),
    "tags that are a list": (raw_point(tags="[1]"), "tags"),
    "metadata that is a text": (raw_point(metadata='"a"'), "metadata"),
    "a number instead of a point": (b"5", "data_points"),
}


@pytest.mark.parametrize("name", POINTS)
def test_invalid_point_is_reported_and_valid_points_are_stored(caller: ApiClient, name: str):
    body, field = POINTS[name]
    single = caller.post(SINGLE, body)
    assert single.status in (400, 422), single.raw
    assert single.headers["Content-Type"] == "application/problem+json"
    assert single.json["errors"][0]["field"] == field or single.json["detail"].startswith("the body")

    valid = json.dumps(VALID_POINT).encode()
    batch = caller.post(
        BATCH, b'{"data_points":[' + valid + b"," + body + b"," + valid.replace(b"good", b"fine") + b"]}"
    )
    assert batch.status == 200, batch.raw
    assert (batch.json["ingested_count"], batch.json["failed_count"], batch.json["total_count"]) == (2, 1, 3)
    [error] = batch.json["errors"]
    assert (error["index"], error["field"]) == (1, field)
    assert error["detail"]

    bulk = caller.post(BULK, b'{"device_001":[' + valid + b'],"device_002":[' + body + b"]}")
    assert bulk.status == 200, bulk.raw
    assert bulk.json["results"]["device_001"] == {
        "success": True, "ingested_count": 1, "failed_count": 0, "total_count": 1, "errors": [],
    }  # fmt: skip
    rejected = bulk.json["results"]["device_002"]
    assert (rejected["success"], rejected["failed_count"], rejected["errors"][0]["field"]) == (False, 1, field)
    assert set(caller.get("devices/device_001/metrics").json) == {"good", "fine"}


BODIES: dict[str, tuple[str, bytes, dict[str, str], set[int]]] = {
    "malformed JSON": (BATCH, b'{"data_points": [', {}, {400}),
    "no body": (BATCH, b"", {}, {400}),
    "bad UTF-8": (BATCH, b'{"data_points": [{"metric_name": "\xff\xfe"}]}', {}, {400}),
    "an array instead of an object": (BATCH, b"[]", {}, {400}),
    "a text instead of points": (BATCH, b'{"data_points": "x"}', {}, {400}),
    "no data_points": (BATCH, b"{}", {}, {400}),
    "an empty array": (BATCH, b'{"data_points": []}', {}, {422}),
    "1,001 points": (BATCH, json.dumps({"data_points": [VALID_POINT] * 1001}).encode(), {}, {422}),
    "an unknown compression": (BATCH, b'{"data_points": "eA==", "compression": "rar"}', {}, {400}),
    "compressed points that are not base64": (BATCH, b'{"data_points": "***", "compression": "gzip"}', {}, {400}),
    "a batch id that is a number": (
        BATCH,
        b'{"data_points": [%s], "batch_id": 5}' % json.dumps(VALID_POINT).encode(),
        {},
        {400},
    ),
    "NUL in a batch id": (
        BATCH,
        b'{"data_points": [%s], "batch_id": "\\u0000"}' % json.dumps(VALID_POINT).encode(),
        {},
        {400},
    ),
    "brackets 100,000 deep": (BATCH, b"[" * 100_000, {}, {400}),
    "objects 100,000 deep": (SINGLE, b'{"a":' * 100_000, {}, {400}),
    "no devices": (BULK, b"{}", {}, {422}),
    "a device without points": (BULK, b'{"device_001": []}', {}, {422}),
    "a device with a number": (BULK, b'{"device_001": 5}', {}, {400, 422}),
    "an empty device id": (BULK, b'{"": [%s]}' % json.dumps(VALID_POINT).encode(), {}, {422}),
    "NUL in a device id": (BULK, b'{"a\\u0000": [%s]}' % json.dumps(VALID_POINT).encode(), {}, {422}),
    "20 MB": (BATCH, b" " * 20_000_000, {}, {413}),
    "an unknown encoding": (BATCH, b"x", {"Content-Encoding": "br"}, {415}),
    "two encodings": (BATCH, b"x", {"Content-Encoding": "gzip, gzip"}, {415}),
    "invalid gzip": (BATCH, b"not gzip", {"Content-Encoding": "gzip"}, {400}),
    "truncated gzip": (BATCH, gzip.compress(b"{}" * 5000)[:-9], {"Content-Encoding": "gzip"}, {400}),
    "a gzip bomb": (BATCH, gzip.compress(b" " * 200_000_000, 9), {"Content-Encoding": "gzip"}, {413}),
    "a zstd bomb": (BATCH, zstandard.compress(b" " * 200_000_000), {"Content-Encoding": "zstd"}, {413}),
    "an lz4 bomb": (BATCH, lz4.frame.compress(b" " * 200_000_000), {"Content-Encoding": "lz4"}, {413}),
    "a deflate bomb": (BATCH, zlib.compress(b" " * 200_000_000, 9), {"Content-Encoding": "deflate"}, {413}),
    "a form": (BATCH, b"a=1", {"Content-Type": "application/x-www-form-urlencoded"}, {415}),
    "XML": (BATCH, b"<a/>", {"Content-Type": "text/xml"}, {415}),
}


@pytest.mark.parametrize("name", BODIES)
def test_invalid_request_is_rejected_with_a_reason(caller: ApiClient, name: str):
    path, body, headers, accepted = BODIES[name]
    response = caller.post(path, body, **headers)
    assert response.status in accepted, response.raw[:500]
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json["detail"] and response.json["status"] == response.status
    assert isinstance(response.json["errors"], list)


@pytest.mark.parametrize("coding", ["gzip", "zstd", "lz4", "deflate"])
def test_compressed_body_is_accepted(caller: ApiClient, coding: str):
    compress = {"gzip": gzip.compress, "zstd": zstandard.compress, "lz4": lz4.frame.compress, "deflate": zlib.compress}[
        coding
    ]
    response = caller.post(
        BATCH, compress(json.dumps({"data_points": [VALID_POINT]}).encode()), **{"Content-Encoding": coding}
    )
    assert response.status == 200 and response.json["ingested_count"] == 1


def _send_raw(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        response = b""
        while chunk := connection.recv(65536):
            response += chunk
        return response


@pytest.mark.parametrize("content_length", [5, 50_000_000, -1])
def test_wrong_content_length_stores_nothing(admin: ApiClient, content_length: int):
    body = json.dumps(VALID_POINT).encode()
    head = f"POST {API}/{SINGLE} HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {admin.headers['X-Api-Key']}\r\n"
    response = _send_raw(admin.port, f"{head}Content-Length: {content_length}\r\n\r\n".encode() + body)
    assert b" 200 " not in response.split(b"\r\n")[0]
    assert admin.get("devices/device_001/metrics").json == []


def test_chunked_body_over_the_size_limit_is_rejected_with_413(admin: ApiClient):
    chunk = b"%x\r\n%s\r\n" % (1 << 20, b" " * (1 << 20))
    head = (
        f"POST {API}/{BATCH} HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {admin.headers['X-Api-Key']}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", admin.port), timeout=10) as connection:
        connection.sendall(head.encode())
        try:
            for _ in range(40):
                connection.sendall(chunk)
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert b" 413 " in connection.recv(65536).split(b"\r\n")[0]


def test_invalid_lookback_is_rejected(caller: ApiClient):
    for lookback in ("-1", "0", "abc", "1e9", "99999999999", "%00"):
        response = caller.get(f"devices/device_001/metrics/m/latest?lookback={lookback}")
        assert response.status == 400 and "lookback" in response.json["detail"], lookback
