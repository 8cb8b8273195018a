"""The library of the alerting document: buffer, rules, callbacks, actions, streams and local ports."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from alerts.evaluation.evaluator import Evaluator
from alerts.models import Rule
from telemetry_client import (
    AlertRule,
    LiveStream,
    RealtimeTelemetryServer,
    Site,
    TelemetryConfig,
    TelemetryProcessor,
)
from telemetry_client.errors import BufferFull, InvalidInput, NothingFound, WrongKey
from tests.alerts.conftest import evaluator as evaluator
from tests.alerts.conftest import run
from tests.client.conftest import site_of, url_of, variables_of
from tests.conftest import ApiClient, point
from tests.telemetry_site.site_process import ROOT, free_port, wait_until

pytestmark = pytest.mark.slow
QUICK = TelemetryConfig(buffer_size=5000, processing_interval=0.05)


def event(value: float = 75.0, **fields: Any) -> dict[str, Any]:
    return {"source": "sensor_001", "type": "temperature", "value": value, "status": "OK", **fields}


def rule(**fields: Any) -> AlertRule:
    parameters = {"field": "temperature", "operator": ">", "value": 80.0}
    return AlertRule(**{"rule_id": "hot", "name": "Hot", "condition": "threshold", "parameters": parameters} | fields)


@pytest.fixture
def processor(admin: ApiClient) -> Iterator[TelemetryProcessor]:
    with TelemetryProcessor(QUICK, site_of(admin)) as processor:
        yield processor


def test_ten_thousand_events_are_stored_when_stop_returns(admin: ApiClient) -> None:
    processor = TelemetryProcessor(TelemetryConfig(buffer_size=10_000, processing_interval=0.1), site_of(admin))
    processor.start()
    for number in range(10_000):
        processor.ingest_data(event(70.0 + number % 30, source=f"sensor_{number % 100}"))
    processor.stop()
    stats = admin.get("stats").json
    assert stats["total_data_points"] == 10_000, stats


def test_full_buffer_of_a_processor_that_was_not_started_raises(admin: ApiClient) -> None:
    processor = TelemetryProcessor(TelemetryConfig(buffer_size=2), site_of(admin))
    processor.ingest_data(event())
    processor.ingest_data(event())
    with pytest.raises(BufferFull, match="2 events wait"):
        processor.ingest_data(event())


@pytest.mark.parametrize("name", ["source", "type", "value"])
def test_event_without_a_field_is_rejected_with_its_name(admin: ApiClient, name: str) -> None:
    incomplete = event()
    del incomplete[name]
    with pytest.raises(InvalidInput, match=f"^{name} is missing"):
        TelemetryProcessor(QUICK, site_of(admin)).ingest_data(incomplete)


def test_events_wait_until_the_site_can_be_reached(admin: ApiClient) -> None:
    processor = TelemetryProcessor(QUICK, Site(f"http://127.0.0.1:{free_port()}", admin.headers["X-Api-Key"]))
    processor.start()
    processor.ingest_data(event(21.0))
    wait_until(lambda: processor._sender.sent == 0, 1, "nothing is sent")
    processor._sender._site = site_of(admin)  # the site is there again
    wait_until(lambda: processor._sender.sent == 1, 10, "the event is sent")
    processor.stop()
    assert admin.get("devices/sensor_001/metrics/temperature/latest").json["value"] == 21.0


def test_rejected_events_are_counted_and_others_stored(processor: TelemetryProcessor, admin: ApiClient) -> None:
    processor.ingest_data(event(20.0))
    processor.ingest_data(event(21.0, timestamp="yesterday"))
    processor.ingest_data(event(float("nan")))
    wait_until(lambda: processor._sender.waiting == 0, 10, "the buffer is sent")
    client = processor.get_dashboard_data()["client"]
    assert client["sent_events"] + client["rejected_events"] == 3


def test_start_with_a_wrong_key_raises(admin: ApiClient) -> None:
    with pytest.raises(WrongKey):
        TelemetryProcessor(QUICK, Site(url_of(admin), "tk_wrong")).start()


def test_action_of_a_rule_runs_in_this_process_and_callbacks_get_the_alert(
    processor: TelemetryProcessor, evaluator: Evaluator
) -> None:
    alerts: list[dict[str, Any]] = []
    updates: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    done = threading.Event()

    def failing(update: dict[str, Any]) -> None:
        raise RuntimeError("a callback of a test")

    processor.subscribe(failing)
    processor.subscribe(updates.append)
    processor.register_action("inspection_trigger", lambda alert: (alerts.append(alert), done.set()))
    processor.register_action("not_of_this_rule", others.append)
    rule_id = processor.add_alert_rule(rule(severity="critical", actions=["inspection_trigger", "log_alert"]))
    run(evaluator)
    processor.ingest_data(event(95.0))
    wait_until(lambda: processor._sender.sent == 1, 10, "the event is sent")
    run(evaluator)

    assert done.wait(10)
    assert (alerts[0]["rule_id"], alerts[0]["severity"], alerts[0]["value"]) == (rule_id, "critical", 95.0)
    assert "95" in alerts[0]["description"] and others == []
    kinds = [(update["type"], update.get("event")) for update in updates]
    assert ("alert", "alert.triggered") in kinds
    listed = processor.get_alerts(limit=10)
    assert (listed[0]["alert_id"], listed[0]["description"]) == (alerts[0]["alert_id"], alerts[0]["description"])

    processor.unsubscribe(updates.append)
    processor.unsubscribe(updates.append)


def test_alerts_whose_events_were_left_out_run_their_actions_once(
    admin: ApiClient, processor: TelemetryProcessor, evaluator: Evaluator
) -> None:
    alerts: list[str] = []
    updates: list[str] = []
    processor.add_alert_rule(rule(actions=["inspection_trigger"]))
    run(evaluator)
    assert admin.post("devices/boiler/telemetry", point("temperature", 95.0)).status == 200
    wait_until(lambda: processor._stream is not None, 10, "the stream is open")
    assert processor._stream is not None
    processor._stopped.set()  # the listener ends, so that no event arrives
    processor._stream.close()
    run(evaluator)
    processor.register_action("inspection_trigger", lambda alert: alerts.append(alert["device_id"]))
    processor.subscribe(lambda update: updates.append(update["event"]))
    for _ in range(2):
        processor._receive({"type": "resync", "channel": "alerts", "reason": "overflow"})
    assert (alerts, updates) == (["boiler"], ["alert.triggered"])


def test_rule_is_changed_by_its_rule_id_and_removed(processor: TelemetryProcessor) -> None:
    first = processor.add_alert_rule(rule())
    second = processor.add_alert_rule(rule(parameters={"field": "temperature", "operator": ">", "value": 90.0}))
    assert first == second and Rule.objects.get().threshold_value == 90.0
    processor.remove_alert_rule("hot")
    with pytest.raises(NothingFound, match="there is no rule"):
        processor.remove_alert_rule("hot")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"condition": "median"}, "condition must be one of threshold, trend, anomaly, not 'median'"),
        ({"rule_id": ""}, "rule_id must be a text that is not empty"),
        ({"parameters": None}, "parameters must be an object"),
    ],
)
def test_invalid_rule_is_rejected_with_its_field(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        rule(**fields)


def test_settings_are_read_from_arguments_then_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELEMETRY_BUFFER_SIZE", "77")
    monkeypatch.setenv("TELEMETRY_ENABLE_HTTP", "false")
    monkeypatch.setenv("TELEMETRY_HTTP_PORT", "9000")
    config = TelemetryConfig(http_port=9001)
    assert (config.buffer_size, config.enable_http, config.http_port, config.websocket_port) == (77, False, 9001, 8765)
    monkeypatch.setenv("TELEMETRY_PROCESSING_INTERVAL", "soon")
    with pytest.raises(InvalidInput, match=r"_PROCESSING_INTERVAL must be a number of 0.001 to 3600, not 'soon'"):
        TelemetryConfig()


def test_stream_resumes_without_a_gap_after_an_interruption(admin: ApiClient) -> None:
    def send(value: float) -> None:
        assert admin.post("devices/pump/telemetry", point("speed", value)).status == 200

    def values(stream: LiveStream, last: float) -> list[float]:
        found: list[float] = []
        while last not in found:
            frame = stream.next_frame(10)
            assert frame is not None, found
            found += [value["value"] for value in frame.get("values", ())]
        return found

    send(1.0)
    with LiveStream(site_of(admin), series={"device_ids": ["pump"], "max_frequency": 100}) as stream:
        assert values(stream, 1.0) == [1.0]
        stream._disconnect()
        for value in (2.0, 3.0, 4.0):
            send(value)
        assert values(stream, 4.0) == [2.0, 3.0, 4.0]
        assert stream.interruptions == 1


def test_example_of_the_documentation_stores_its_rule_and_its_event(
    admin: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables_of(admin).items():
        monkeypatch.setenv(name, value)
    text = (ROOT / "docs/use/command-line.md").read_text()
    exec(text.partition("```python\n")[2].partition("```")[0], {})
    assert Rule.objects.get().name == "Too hot"
    assert admin.get("devices/boiler/metrics/temperature/latest").json["value"] == 95.0


@pytest.fixture
def ports(processor: TelemetryProcessor) -> Iterator[RealtimeTelemetryServer]:
    config = TelemetryConfig(websocket_port=0, http_port=0, dashboard_port=0)
    with RealtimeTelemetryServer(processor, config) as server:
        yield server


def test_http_port_stores_events_and_answers_as_the_site(ports: RealtimeTelemetryServer, admin: ApiClient) -> None:
    local = Site(f"http://127.0.0.1:{ports.http_port}")
    assert local.post("/telemetry", event(timestamp=point()["timestamp"]))["ingested_count"] == 1
    assert local.get("/alerts", limit=10) == [] and local.get("/patterns") == []
    assert local.get("/dashboard").keys() == admin.get("/dashboard").json.keys()
    health = local.get("/health")
    assert (health["status"], health["processor_running"]) == ("healthy", True) and health["timestamp"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Origin": "http://localhost:3000"}, 200),
    ],
)
def test_http_port_refuses_pages_of_other_origins(
    ports: RealtimeTelemetryServer, headers: dict[str, str], status: int
) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{ports.http_port}/alerts", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            assert response.status == status
    except urllib.error.HTTPError as error:
        assert error.code == status
        error.close()


def test_websocket_port_relays_the_live_stream(ports: RealtimeTelemetryServer) -> None:
    with connect(f"ws://localhost:{ports.websocket_port}") as socket:
        socket.send(json.dumps({"type": "subscribe", "channels": ["alerts", "dashboard"]}))
        frame = json.loads(socket.recv(timeout=10))
        assert (frame["type"], frame["channels"]) == ("subscribed", ["alerts", "dashboard"])
    with (
        pytest.raises(InvalidStatus, match="403"),
        connect(
            f"ws://localhost:{ports.websocket_port}",
            origin="https://evil.example",  # type: ignore[arg-type]
        ),
    ):
        pass
