"""Commands and the library go on after the web process was killed: no value and no alert is lost."""

import contextlib
import json
import time
from pathlib import Path

import pytest

from telemetry_client import TelemetryConfig, TelemetryProcessor
from tests.client.conftest import Shell, site_of, variables_of
from tests.conftest import ApiClient, point
from tests.telemetry_site.site_process import free_port, wait_until
from tests.web_process import web_process

pytestmark = pytest.mark.slow


def send(caller: ApiClient, value: float) -> None:
    assert caller.post("devices/pump/telemetry", point("speed", value)).status == 200


def test_tail_shows_every_value_although_the_web_process_is_killed(tmp_path: Path, admin: ApiClient) -> None:
    there = ApiClient(free_port(), admin.headers)
    shell = Shell(tmp_path, variables_of(there))
    with contextlib.ExitStack() as stack:
        with web_process(there):
            send(admin, 1.0)
            tail = stack.enter_context(shell.background("telemetry tail --device pump --every 100 --json"))
            tail.wait_for('"value": 1.0')
        for value in (2.0, 3.0, 4.0):
            send(admin, value)
        with web_process(there):
            tail.wait_for('"value": 4.0', 30)
            send(admin, 5.0)
            tail.wait_for('"value": 5.0')
            assert tail.stop() == 130
    assert [json.loads(text)["value"] for text in filter(None, tail.lines)] == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_processor_stores_every_event_although_the_web_process_is_killed(admin: ApiClient) -> None:
    there = ApiClient(free_port(), admin.headers)
    config = TelemetryConfig(processing_interval=0.05)
    processor = TelemetryProcessor(config, site_of(there))
    event = {"source": "pump", "type": "speed", "status": "OK"}
    with web_process(there):
        processor.start()
        processor.ingest_data({**event, "value": 1.0})
        wait_until(lambda: processor.get_dashboard_data()["client"]["sent_events"] == 1, 10, "an event is sent")
    for value in (2.0, 3.0, 4.0):
        processor.ingest_data({**event, "value": value})
    with web_process(there):
        wait_until(lambda: processor.get_dashboard_data()["client"]["waiting_events"] == 0, 40, "the others are sent")
        processor.stop()
    points = admin.get("devices/pump/metrics/speed/range?time_range=1h").json["data_points"]
    assert [stored["value"] for stored in points] == [1.0, 2.0, 3.0, 4.0]


def test_ingest_says_where_to_continue_after_the_web_process_was_killed(tmp_path: Path, admin: ApiClient) -> None:
    there = ApiClient(free_port(), admin.headers)
    shell = Shell(tmp_path, variables_of(there))
    now = time.time() - 600
    lines = [json.dumps({"timestamp": now + n, "source": "pump", "type": "speed", "value": n}) for n in range(500)]
    (tmp_path / "events.jsonl").write_text("\n".join(lines))
    latest = "devices/pump/metrics/speed/latest"
    with contextlib.ExitStack() as stack:
        with web_process(there):
            command = stack.enter_context(shell.background("telemetry ingest events.jsonl --delay 0.01"))
            wait_until(lambda: admin.get(latest).json.get("value", 0) > 5, 20, "the first events are stored")
        assert command.process.wait(30) == 3
    text = command.wait_for("continue with --skip")
    with web_process(there):
        shell.succeed(f"telemetry ingest events.jsonl {text.partition('with ')[2]}")
    points = admin.get("devices/pump/metrics/speed/range?time_range=1h").json["data_points"]
    assert [stored["value"] for stored in points] == list(range(500))


def test_stop_returns_within_its_time_when_the_site_is_down(admin: ApiClient, caplog: pytest.LogCaptureFixture) -> None:
    processor = TelemetryProcessor(TelemetryConfig(), site_of(ApiClient(free_port(), admin.headers)))
    processor.start()
    processor.ingest_data({"source": "pump", "type": "speed", "value": 1.0})
    processor._sender.stop(0.5)
    processor.stop()
    assert "1 events were not sent" in caplog.text
