"""Exports in the background."""

import pytest

from metrics.export import jobs
from tests.metrics.test_query_api import END_TEXT, START_TEXT, at, send

ASKED = {
    "device_ids": ["device_001"],
    "metric_names": ["temperature"],
    "start_time": START_TEXT,
    "end_time": END_TEXT,
}


def order(caller, **more):
    answer = caller.post("export/jobs", ASKED | more)
    assert answer.status == 202, answer.raw
    assert answer.json["status"] == "queued"
    return answer.json["id"]


def state(caller, export_id):
    answer = caller.get(f"export/jobs/{export_id}")
    assert answer.status == 200, answer.raw
    return answer.json


def fetched(caller, export_id):
    answer = caller.get(f"export/jobs/{export_id}/download")
    assert answer.status == 200, answer.raw
    assert int(answer.headers["Content-Length"]) == len(answer.raw)
    return answer.raw


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_an_export_in_the_background_is_the_file_that_the_stream_gives(admin, kind):
    send(admin, [at(tick, value=tick / 8, unit="celsius") for tick in range(500)])
    export_id = order(admin, format=kind)
    assert jobs.work() == 1
    found = state(admin, export_id)
    assert (found["status"], found["progress"], found["rows"]) == ("done", 1.0, 500)
    names = "device_ids=device_001&metric_names=temperature"
    times = f"start_time={START_TEXT}&end_time={END_TEXT}".replace("+", "%2B")
    streamed = admin.get(f"export/csv?{names}&{times}&format={kind}")
    assert fetched(admin, export_id) == streamed.raw
    assert found["bytes"] == len(streamed.raw)
