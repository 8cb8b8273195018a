"""Invalid messages and parameters of the stream /ws/live."""

import json

import pytest

from tests.conftest import ApiClient
from tests.dashboard.streams.live_stream_client import open_live, subscribe
from tests.dashboard.streams.stream_client import closed_with, open_path, receive

INVALID_MESSAGES = {
    "no type": ("{}", "type must be"),
    "unknown type": ('{"type": "delete"}', "type must be"),
    "type of another type": ('{"type": ["subscribe"]}', "type must be"),
    "neither channels nor subscription": ('{"type": "subscribe"}', "either channels or subscription"),
    "both": ('{"type": "subscribe", "channels": ["alerts"], "subscription": "a"}', "either channels or subscription"),
    "channels no list": ('{"type": "subscribe", "channels": "alerts"}', "channels must be a list"),
    "channels empty": ('{"type": "unsubscribe", "channels": []}', "channels must be a list"),
    "channels null": ('{"type": "subscribe", "channels": null}', "channels must be a list"),
    "unknown channel": ('{"type": "subscribe", "channels": ["alarms"]}', "channels must only have"),
    "channel no text": ('{"type": "subscribe", "channels": [{"a": 1}]}', "channels must only have"),
    "unknown field": ('{"type": "subscribe", "channels": ["alerts"], "devices": []}', "devices is not a field"),
    "field of data": ('{"type": "subscribe", "channels": ["alerts"], "tags": {}}', "tags is not a field"),
    "unsubscribe with filter": ('{"type": "unsubscribe", "subscription": "a", "tags": {}}', "tags is not a field"),
    "subscription no text": ('{"type": "subscribe", "subscription": 1}', "subscription must be a text"),
    "subscription empty": ('{"type": "subscribe", "subscription": ""}', "subscription must be a text"),
    "subscription too long": (json.dumps({"type": "subscribe", "subscription": "x" * 101}), "subscription must be"),
    "devices no list": ('{"type": "subscribe", "subscription": "a", "device_ids": "a"}', "device_ids must be a list"),
    "device no text": ('{"type": "subscribe", "subscription": "a", "device_ids": [1]}', "device_ids must have names"),
    "device with NUL": ('{"type": "subscribe", "subscription": "a", "device_ids": ["\\u0000"]}', "device_ids must"),
    "too many metrics": (
        json.dumps({"type": "subscribe", "subscription": "a", "metric_names": ["m"] * 501}),
        "metric_names must be a list of at most 500",
    ),
    "long group": (
        json.dumps({"type": "subscribe", "subscription": "a", "groups": ["x" * 201]}),
        "groups must have names",
    ),
    "tags no object": ('{"type": "subscribe", "subscription": "a", "tags": ["a"]}', "tags must be an object"),
    "tag value an object": ('{"type": "subscribe", "subscription": "a", "tags": {"a": {}}}', "tags must have texts"),
    "frequency too high": ('{"type": "subscribe", "subscription": "a", "max_frequency": 99}', "max_frequency must"),
    "frequency boolean": ('{"type": "subscribe", "subscription": "a", "max_frequency": true}', "max_frequency must"),
    "frequency null": ('{"type": "subscribe", "subscription": "a", "max_frequency": null}', "max_frequency must"),
    "frequency text": ('{"type": "subscribe", "subscription": "a", "max_frequency": "1"}', "max_frequency must"),
    "position a number": ('{"type": "subscribe", "channels": ["alerts"], "resume_from": 1}', "resume_from must"),
    "position a word": ('{"type": "subscribe", "channels": ["alerts"], "resume_from": "x"}', "resume_from"),
    "position of several shards": (
        '{"type": "subscribe", "channels": ["alerts"], "resume_from": "00000000.1-2"}',
        "resume_from must",
    ),
    "position negative": ('{"type": "subscribe", "subscription": "a", "resume_from": "00000000.-1"}', "resume_from"),
    "duplicate name": (
        '{"type": "subscribe", "channels": ["alerts"], "channels": ["jobs"]}',
        "'channels' occurs twice",
    ),
    "duplicate tag": ('{"type": "subscribe", "subscription": "a", "tags": {"x": 1, "x": 2}}', "'x' occurs twice"),
}


@pytest.mark.parametrize(("message", "detail"), INVALID_MESSAGES.values(), ids=INVALID_MESSAGES)
def test_invalid_message_gets_an_error_that_names_the_field(
    administrator: ApiClient, caplog: pytest.LogCaptureFixture, message: str, detail: str
):
    with open_live(administrator) as socket:
        socket.send(message)
        frame = receive(socket, "error")
        assert detail in frame["detail"]
        assert frame == {
            "type": "error", "code": None, "detail": frame["detail"], "retry": False, "retry_after_ms": None
        }  # fmt: skip
        subscribe(socket, "devices")  # the stream goes on
    assert not [record for record in caplog.records if record.name.startswith("dashboard")]


FATAL_MESSAGES = {
    "no JSON": "x",
    "empty": "",
    "a list": "[]",
    "a number": "1",
    "deep": "[" * 30_000,
    "deep in a field": '{"type": "subscribe", "tags": ' + '{"a":' * 10_000 + "1" + "}" * 10_001,
    "binary": b'{"type": "pong"}',
    "lone surrogate": '{"type": "\\ud800"}',
    "NaN": '{"type": NaN}',
}


@pytest.mark.parametrize("message", FATAL_MESSAGES.values(), ids=FATAL_MESSAGES)
def test_message_that_is_no_json_object_closes_the_stream_with_4013(
    administrator: ApiClient, caplog: pytest.LogCaptureFixture, message: str | bytes
):
    with open_live(administrator) as socket:
        socket.send(message)
        error = closed_with(socket)
        assert error["code"] == 4013 and not error["retry"]
    assert not [record for record in caplog.records if record.name.startswith("dashboard")]


@pytest.mark.slow
def test_largest_message_is_answered_and_a_larger_one_closes_the_stream(administrator: ApiClient):
    message = '{"type": "subscribe", "channels": ["alerts"]}'
    with open_live(administrator) as socket:
        socket.send(message + " " * (64 * 1024 - len(message)))
        receive(socket, "subscribed")
        socket.send(message + " " * (64 * 1024 + 1 - len(message)))
        assert closed_with(socket)["code"] == 4013


def test_ten_invalid_messages_close_the_stream(administrator: ApiClient):
    with open_live(administrator) as socket:
        for _ in range(10):
            socket.send("{}")
        assert closed_with(socket)["code"] == 4013


@pytest.mark.parametrize("query", ["channels=alarms", "devices=a", "max_frequency=1", "channels=alerts&resume_from=x"])
def test_invalid_parameter_closes_the_stream_with_4013(administrator: ApiClient, query: str):
    name, _, value = query.rpartition("&")[2].partition("=")
    with open_path(administrator, f"/ws/live?{query}") as socket:
        error = closed_with(socket)
        assert error["code"] == 4013 and (name in error["detail"] or value in error["detail"])
