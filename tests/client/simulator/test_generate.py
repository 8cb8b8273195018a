"""The simulator's entry point: files that the site loads, and runs against the web process."""

import csv
import gzip
import io
import json
import threading
from collections.abc import Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from telemetry_client.simulator.fleet import Fleet
from telemetry_client.simulator.generate import generate
from telemetry_client.simulator.progress import RunResult, SimulatorError
from telemetry_client.simulator.schedule import Rates
from tests.conftest import ApiClient
from tests.metrics.stored_points import read_stored_values

START = 1_790_000_000
STEADY = Rates(faults=1, outages=0, offline=0, clock_errors=0)
HOUR = 3600


def recent_start(hours: float = 3) -> float:
    return datetime.now().timestamp() // HOUR * HOUR - hours * HOUR


def read_rows(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# --- files -----------------------------------------------------------------------------------------


def test_document_format_is_an_array_of_events(tmp_path: Path) -> None:
    file = tmp_path / "simulated_data.json"
    result = generate(output=str(file), count=1000, start=START)
    events = json.loads(file.read_text())
    assert result.points == len(events) == 1000
    assert all(event.keys() == {"timestamp", "source", "type", "value", "status"} for event in events)
    assert {type(event["value"]) for event in events} == {float, int, bool, str}
    assert START - 86_400 < events[0]["timestamp"] < START + 86_400


@pytest.mark.slow
def test_run_with_a_number_of_points_ends_shortly_before_the_present(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    generate(output=str(file), count=50_000, clock=lambda: START)
    times = [event["timestamp"] for event in json.loads(file.read_text())]
    assert len(times) == 50_000
    assert START - 0.15 * (max(times) - min(times)) < max(times) <= START


@pytest.mark.slow
def test_frequent_outages_do_not_reduce_the_number_of_points(tmp_path: Path) -> None:
    rates = Rates(outages=40, offline=0)
    assert generate(output=str(tmp_path / "a.csv"), count=50_000, start=START, rates=rates).points == 50_000


def test_all_formats_have_the_same_points(tmp_path: Path) -> None:
    for name in ("points.json", "points.jsonl", "points.csv"):
        generate(output=str(tmp_path / name), devices=5, start=START, duration=HOUR)
    events = json.loads((tmp_path / "points.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "points.jsonl").read_text().splitlines()]
    rows = read_rows(tmp_path / "points.csv")
    assert [(row["source"], row["type"], row["value"]) for row in events] == [
        (line["device_id"], line["metric_name"], line["value"]) for line in lines
    ]
    assert [datetime.fromisoformat(line["timestamp"]).timestamp() for line in lines] == pytest.approx(
        [event["timestamp"] for event in events], abs=1e-3
    )
    names = ("timestamp", "device_id", "metric_name")
    assert [[row[name] for name in names] for row in rows] == [[line[name] for name in names] for line in lines]


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.json", "a.jsonl.gz"])
def test_same_seed_gives_the_same_bytes(tmp_path: Path, name: str) -> None:
    files = [tmp_path / folder / name for folder in ("one", "two")]
    for file in files:
        file.parent.mkdir()
        generate(output=str(file), devices=4, start=START, duration=HOUR, labels=f"{file}.labels")
    assert files[0].read_bytes() == files[1].read_bytes() != b""
    assert Path(f"{files[0]}.labels").read_bytes() == Path(f"{files[1]}.labels").read_bytes()


@pytest.mark.slow
def test_labels_file_has_a_line_per_fault_and_event(tmp_path: Path) -> None:
    labels = tmp_path / "labels.jsonl"
    result = generate(
        output=str(tmp_path / "a.csv"), devices=20, start=START, duration=7 * 86_400, interval=600, labels=str(labels)
    )
    lines = [json.loads(line) for line in labels.read_text().splitlines()]
    assert len(lines) == result.labels > 20
    assert all(line.keys() == {"device", "metric", "kind", "start", "end"} for line in lines)
    assert {line["kind"] for line in lines} >= {"stuck", "drift", "outage", "offline", "restart"}
    assert all((line["metric"] is None) == (line["kind"] in ("outage", "offline", "restart")) for line in lines)
    assert all(datetime.fromisoformat(line["start"]) < datetime.fromisoformat(line["end"]) for line in lines)


@pytest.mark.slow
def test_site_loads_the_csv_file_with_the_kinds_of_its_values(site: None, settings: Any, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path / "var"
    file, output = tmp_path / "fleet.csv.gz", io.StringIO()
    start = recent_start()
    result = generate(output=str(file), devices=5, start=start, duration=HOUR, rates=STEADY)
    call_command("load", str(file), stdout=output)
    assert f"{result.points:,} points stored, 0 rows rejected" in output.getvalue()
    first, last = datetime.fromtimestamp(start - HOUR).astimezone(), datetime.now().astimezone()
    for device in Fleet(1, 5, rates=STEADY).devices:
        for column in device.columns(round(start * 1000), round(start * 1000) + HOUR * 1000):
            stored = read_stored_values(device.device_id, column.metric.name, first, last)
            assert list(stored.values) == column.values.tolist()
            assert (stored.times // 1000).tolist() == column.times.tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either an output file or the URL of a site is required"),
        ({"output": "a.csv", "site": "http://x"}, "either an output file or the URL"),
        ({"output": "a.xml"}, "format must be one of json, jsonl, csv, or the end of the file name"),
        ({"output": "a.csv", "devices": 0}, "devices must be 1 to"),
        ({"output": "a.csv", "speed": 0}, "speed must be over 0"),
        ({"output": "a.csv", "count": 0}, "count must be at least 1 point"),
        ({"output": "a.csv", "duration": -1}, "duration must be over 0 seconds"),
        ({"output": "a.csv", "start": -5}, "start must be 0 to"),
        ({"output": "/nowhere/a.csv"}, "/nowhere/a.csv cannot be written: No such file or directory"),
        ({"output": "/dev/full", "file_format": "csv"}, "/dev/full cannot be written: No space left on device"),
        ({"site": "localhost:8218"}, "site must be a URL such as http://127.0.0.1:8218, not 'localhost:8218'"),
        ({"site": "http://x", "connections": 0}, "connections must be 1 to 64"),
        ({"site": "http://x", "batch": 10**6}, "batch must be 1 to 50000 points"),
    ],
)
def test_invalid_argument_is_refused_in_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(SimulatorError) as refused:
        generate(**({"start": START, "duration": HOUR} | arguments))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_progress_ends_with_the_whole_range(tmp_path: Path) -> None:
    seen: list[float] = []
    generate(
        output=str(tmp_path / "a.csv"), start=START, duration=HOUR, on_progress=lambda run: seen.append(run.fraction)
    )
    assert seen[-1] == 1.0
    assert seen == sorted(seen)


# --- speed -----------------------------------------------------------------------------------------


class SimulatedClock:
    """A clock that only sleeping moves."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("speed", [1, 60])
def test_run_with_a_speed_takes_its_time_and_ends_at_the_present(tmp_path: Path, speed: float) -> None:
    clock, file = SimulatedClock(START), tmp_path / "a.jsonl"
    generate(
        output=str(file), duration=HOUR, speed=speed, rates=STEADY, clock=clock, sleep=clock.sleep
    )  # fmt: skip
    assert HOUR / speed - 60 / speed <= clock.now - START <= HOUR / speed
    newest = datetime.fromisoformat(json.loads(file.read_text().splitlines()[-1])["timestamp"]).timestamp()
    assert clock.now - 70 < newest <= clock.now + 1


# --- the site --------------------------------------------------------------------------------------


def site_of(client: ApiClient) -> dict[str, str]:
    return {"site": f"http://127.0.0.1:{client.port}", "key": client.headers["X-Api-Key"]}


@pytest.mark.slow
def test_site_stores_every_point_of_a_run(admin: ApiClient) -> None:
    start = recent_start()
    options: dict[str, Any] = {"devices": 10, "start": start, "duration": HOUR, "interval": 30, "batch": 700}
    result = generate(**site_of(admin), **options, connections=3)
    assert (result.rejected, result.first_rejection, result.retries) == (0, "", 0)
    stored = {
        device.device_id: admin.get(f"devices/{device.device_id}/stats").json for device in Fleet(1, 10, 30).devices
    }
    assert sum(document["data_points_count"] for document in stored.values()) == result.points > 5000
    again = generate(**site_of(admin), **options)
    assert again.points == result.points
    latest = admin.get("devices/sim-pump-001/metrics/operating_state/latest").json
    assert latest["value"] in ("automatic", "manual", "standby")


@pytest.mark.slow
def test_registered_fleet_has_definitions_groups_and_positions(admin: ApiClient) -> None:
    options: dict[str, Any] = {"devices": 6, "start": recent_start(), "duration": 600, "register": True}
    assert generate(**site_of(admin), **options).rejected == 0
    device = admin.get("devices/sim-cold-store-002").json
    simulated = Fleet(1, 6).device(1)
    assert (device["name"], device["device_type"], device["groups"]) == (simulated.name, "cold-store", ["south plant"])
    assert (device["latitude"], device["longitude"]) == simulated.position
    assert device["metadata"] == simulated.metadata
    definition = admin.get("metrics/energy_kwh").json
    assert (definition["metric_type"], definition["unit"]) == ("counter", "kWh")
    admin.call("PATCH", "devices/sim-cold-store-002", {"name": "renamed"})
    assert generate(**site_of(admin), **options).rejected == 0
    assert admin.get("devices/sim-cold-store-002").json["name"] == "renamed"


def test_registration_with_an_ingest_key_ends_the_run(gateway: ApiClient) -> None:
    with pytest.raises(SimulatorError, match=r"does not accept the key: .*\(403\)"):
        generate(**site_of(gateway), register=True, start=recent_start(), duration=600)


def test_rejected_points_are_counted_with_the_first_reason(admin: ApiClient) -> None:
    admin.post("metrics", {"name": "flow", "data_type": "boolean"})
    result = generate(**site_of(admin), types=("pump",), devices=1, start=recent_start(), duration=600)
    assert result.points > result.rejected == 10
    assert "value: " in result.first_rejection


def test_wrong_key_ends_the_run_with_the_reason(admin: ApiClient) -> None:
    with pytest.raises(SimulatorError, match=r"does not accept the key: .*\(401\)"):
        generate(site=f"http://127.0.0.1:{admin.port}", key="wrong", start=recent_start(), duration=HOUR)


def test_key_without_ingest_scope_ends_the_run(reader: ApiClient) -> None:
    with pytest.raises(SimulatorError, match=r"does not accept the key: .*\(403\)"):
        generate(**site_of(reader), start=recent_start(), duration=HOUR)


class FaultySite:
    """A server that answers with the given statuses, then stores nothing and answers 200."""

    def __init__(self, *answers: tuple[int, dict[str, str], bytes]) -> None:
        self.bodies: list[dict[str, Any]] = []
        pending, outer = list(answers), self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                assert self.headers["Content-Encoding"] == "gzip"
                body = json.loads(gzip.decompress(self.rfile.read(int(self.headers["Content-Length"]))))
                status, headers, answer = pending.pop(0) if pending else (200, {}, b'{"failed_count": 0}')
                if status == 200:
                    outer.bodies.append(body)
                self.send_response(status)
                for name, value in (headers | {"Content-Length": str(len(answer))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def faulty_site(request: pytest.FixtureRequest) -> Iterator[FaultySite]:
    site = FaultySite(*request.param)
    yield site
    site.stop()


BUSY = (503, {"Retry-After": "7"}, b'{"detail": "busy"}')


@pytest.mark.slow
@pytest.mark.parametrize("faulty_site", [[BUSY, (429, {"Retry-After": "x"}, b"")]], indirect=True)
def test_busy_site_gets_the_points_again_after_retry_after(faulty_site: FaultySite) -> None:
    waits: list[float] = []
    result = generate(site=faulty_site.url, devices=1, start=START, duration=HOUR, connections=1, sleep=waits.append)
    assert sum(len(points) for body in faulty_site.bodies for points in body.values()) == result.points > 0
    assert (waits, result.retries) == ([7.0, 0.5], 2)


@pytest.mark.slow
@pytest.mark.parametrize("faulty_site", [[BUSY] * 6], indirect=True)
def test_site_that_stays_busy_ends_the_run(faulty_site: FaultySite) -> None:
    with pytest.raises(SimulatorError, match=r"answers 503 \(busy\) after 6 attempts"):
        generate(site=faulty_site.url, devices=1, start=START, duration=HOUR, connections=1, sleep=lambda _: None)


@pytest.mark.slow
@pytest.mark.parametrize("faulty_site", [[(200, {}, b"<html>Welcome</html>")]], indirect=True)
def test_answer_of_another_server_ends_the_run(faulty_site: FaultySite) -> None:
    with pytest.raises(SimulatorError, match="answers 200: no answer of a telemetry site; is the URL right"):
        generate(site=faulty_site.url, devices=1, start=START, duration=HOUR, connections=1)


def test_unreachable_site_ends_the_run() -> None:
    waits: list[float] = []
    with pytest.raises(SimulatorError, match=r"cannot be reached \(.*refused.*\) after 6 attempts"):
        generate(site="http://127.0.0.1:9", devices=1, start=START, duration=HOUR, connections=1, sleep=waits.append)
    assert waits == [0.25, 0.5, 1.0, 2.0, 4.0]


def test_rate_is_zero_before_the_first_point() -> None:
    assert RunResult().rate == 0
