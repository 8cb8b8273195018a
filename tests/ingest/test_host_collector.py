"""The host collector with real sensors, a real HTTP server and a manual clock."""

import http.server
import json
import logging
import math
import os
import random
import signal
import socketserver
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from email.utils import formatdate
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from ingest.collectors.clock import SystemClock, ticks
from ingest.collectors.host import INTERVAL, measure
from ingest.collectors.sensors import Measurement, Sensor, Sensors, host_sensors, named_temperatures
from ingest.collectors.site_client import InvalidUrl, SiteClient, parse_retry_after
from ingest.collectors.snapshot_queue import SnapshotQueue
from ingest.collectors.snapshot_sender import MAX_PAUSE, MAX_REQUEST_POINTS, Backoff, SnapshotSender

ROOT = Path(__file__).resolve().parents[2]
START = 1_800_000_001.25


class ManualClock:
    """A clock that advances only while code waits for it, and ends after `lasts` seconds."""

    def __init__(self, now: float = START, lasts: float = math.inf) -> None:
        self.now, self.up, self.last = now, 0.0, now + lasts
        self.waits: list[float] = []

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.up

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.now += seconds
        self.up += seconds
        return self.now > self.last


class ReceivingSite:
    """A server that accepts batches like the site and returns queued responses: (status, headers, body)."""

    def __init__(self) -> None:
        self.responses: deque[tuple[int, dict[str, str], bytes]] = deque()
        self.requests: list[dict[str, Any]] = []
        self.arrived = threading.Condition()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, headers, response = (
                    site.responses.popleft() if site.responses else (200, {}, b'{"accepted": 1}')
                )
                with site.arrived:
                    site.requests.append(
                        {
                            "path": self.path,
                            "key": self.headers["X-Api-Key"],
                            "points": body["data_points"],
                            "port": self.client_address[1],
                            "status": status,
                        }
                    )
                    site.arrived.notify_all()
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(response))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(response)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler

    def accepted_points(self) -> list[dict[str, Any]]:
        return [point for request in self.requests if request["status"] == 200 for point in request["points"]]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def site() -> Iterator[ReceivingSite]:
    server = ReceivingSite()
    yield server
    server.close()


CLIENTS: list[SiteClient] = []


@pytest.fixture(autouse=True)
def close_clients() -> Iterator[None]:
    yield
    while CLIENTS:
        CLIENTS.pop().close()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.write_text("tk_of_this_machine\n")
    return file


def snapshot_sender(
    url: str, key_file: Path, backlog: SnapshotQueue, clock: ManualClock | None = None
) -> SnapshotSender:
    client = SiteClient(url, "host 1/a", key_file, timeout=5)
    CLIENTS.append(client)
    return SnapshotSender(backlog, client, clock or ManualClock(), random.Random(1))


def add_snapshots(backlog: SnapshotQueue, count: int, width: int = 2, start: float = START // 5 * 5) -> list[float]:
    times = [start + 5 * step for step in range(count)]
    for number, at in enumerate(times):
        backlog.add(at, [Measurement(f"m{column}", number, "%") for column in range(width)])
    return times


def epoch_seconds(points: list[dict[str, Any]]) -> list[float]:
    return [datetime.fromisoformat(point["timestamp"]).timestamp() for point in points]


# --- when -------------------------------------------------------------------------------------------


def test_ticks_are_multiples_of_the_interval_without_drift() -> None:
    clock = ManualClock()
    tick_times = []
    for at in islice(ticks(clock, 5.0), 1000):
        tick_times.append(at)
        clock.now += 0.9  # duration of the measurement
    assert tick_times[0] == 1_800_000_005
    assert {later - earlier for earlier, later in pairwise(tick_times)} == {5.0}


def test_clock_set_back_delays_no_tick_and_suspend_skips_ticks() -> None:
    clock = ManualClock()
    tick_times = ticks(clock, 5.0)
    next(tick_times)
    clock.now -= 3600
    assert next(tick_times) == 1_800_000_010 - 3600
    clock.now += 7200
    assert next(tick_times) == 1_800_000_015 + 3600
    assert max(clock.waits) <= 5


def test_early_wakeup_yields_each_tick_once() -> None:
    class EarlyClock(ManualClock):
        def wait(self, seconds: float) -> bool:
            return super().wait(seconds * 0.99 if seconds > 0.01 else seconds)

    tick_times = list(islice(ticks(EarlyClock(), 5.0), 20))
    assert {later - earlier for earlier, later in pairwise(tick_times)} == {5.0}


# --- what -------------------------------------------------------------------------------------------


def test_host_sensors_return_names_units_and_plausible_values() -> None:
    clock = ManualClock(time.time())
    sensors = Sensors(host_sensors(clock))
    sensors.read()
    clock.wait(5)
    readings = {reading.metric: reading for reading in sensors.read()}
    assert {
        "cpu_percent", "memory_percent", "memory_used_mb", "memory_total_mb", "swap_percent", "disk_percent",
        "disk_used_gb", "disk_total_gb", "network_rx_bytes", "network_tx_bytes", "network_rx_rate_mbps",
        "network_tx_rate_mbps", "load_avg_1m", "load_avg_5m", "load_avg_15m", "process_count", "uptime_seconds",
    } <= set(readings)  # fmt: skip
    assert len(readings) <= 30
    for name in ("cpu_percent", "memory_percent", "swap_percent", "disk_percent"):
        assert 0 <= readings[name].value <= 100
        assert readings[name].unit == "%"
    assert readings["memory_total_mb"].value == pytest.approx(psutil.virtual_memory().total / 2**20, abs=1)
    assert readings["process_count"].value >= 2


def test_rate_needs_two_readings_and_is_skipped_after_a_counter_reset() -> None:
    from ingest.collectors.sensors import CounterRate

    clock = ManualClock()
    rate = CounterRate(clock)
    assert rate.update(1000) is None
    clock.wait(5)
    assert rate.update(2000) == 200
    assert rate.update(2500) is None  # no time passed
    clock.wait(5)
    assert rate.update(10) is None
    clock.wait(5)
    assert rate.update(60) == 10


def test_temperatures_of_the_same_name_are_numbered_and_limited() -> None:
    readings_by_chip = {
        "coretemp": [("Package id 0", 50.0, None, None), ("", 40.0, None, None), ("", 41.0, None, None)]
    }
    assert [tuple(reading) for reading in named_temperatures(readings_by_chip)] == [
        ("temperature_coretemp_package_id_0", 50.0, "°C"),
        ("temperature_coretemp", 40.0, "°C"),
        ("temperature_coretemp_2", 41.0, "°C"),
    ]
    assert len(list(named_temperatures({"disks": [(f"d{n}", 30.0, None, None) for n in range(100)]}))) == 8


def test_failing_sensor_loses_only_its_own_measurements(caplog: pytest.LogCaptureFixture) -> None:
    broken = [True]

    def fan_sensor() -> list[Measurement]:
        if broken:
            raise OSError("no such fan")
        return [Measurement("fan", 1.0, "rpm")]

    def invalid_sensor() -> list[Measurement]:
        return [Measurement("odd", math.nan, ""), Measurement("even", 2.0, "")]

    sensors: dict[str, Sensor] = {"fan": fan_sensor, "odd": invalid_sensor}
    reader = Sensors(sensors)
    with caplog.at_level(logging.INFO):
        assert [reading.metric for _ in range(3) for reading in reader.read()] == ["even"] * 3
        broken.clear()
        assert [reading.metric for reading in reader.read()] == ["fan", "even"]
    assert [record.message for record in caplog.records] == [
        "sensor fan cannot be read: no such fan",
        "sensor fan can be read again",
    ]


# --- delivery ---------------------------------------------------------------------------------------


def test_snapshot_is_sent_as_one_batch_with_key_units_and_aligned_time(site: ReceivingSite, key_file: Path) -> None:
    clock = ManualClock(lasts=7)
    backlog = SnapshotQueue(10)
    measure(
        clock,
        Sensors({"one": lambda: [Measurement("cpu_percent", 12.5, "%"), Measurement("load_avg_1m", 1, "")]}),
        backlog,
    )
    assert snapshot_sender(site.url, key_file, backlog).step() == 0
    assert site.requests[0]["path"] == "/api/v1/telemetry/devices/host%201%2Fa/telemetry/batch"
    assert site.requests[0]["key"] == "tk_of_this_machine"
    assert site.requests[0]["points"] == [
        {"timestamp": "2027-01-15T08:00:05Z", "metric_name": "cpu_percent", "value": 12.5, "unit": "%"},
        {"timestamp": "2027-01-15T08:00:05Z", "metric_name": "load_avg_1m", "value": 1.0},
    ]


def test_connection_is_reused_and_replaced_when_closed(site: ReceivingSite, key_file: Path) -> None:
    backlog = SnapshotQueue(10)
    delivery = snapshot_sender(site.url, key_file, backlog)
    for headers in ({}, {"Connection": "close"}, {}):
        site.responses.append((200, headers, b"{}"))
        add_snapshots(backlog, 1)
        assert delivery.step() == 0
    ports = [request["port"] for request in site.requests]
    assert ports[0] == ports[1] != ports[2]


def test_snapshots_of_an_outage_are_sent_in_order_with_original_times(
    site: ReceivingSite, key_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backlog = SnapshotQueue(1000)
    unreachable = snapshot_sender("http://127.0.0.1:1", key_file, backlog)
    times = add_snapshots(backlog, 700)
    with caplog.at_level(logging.WARNING):
        assert all(unreachable.step() > 0 for _ in range(5))
    assert len(caplog.records) == 1  # an outage is logged once
    assert len(backlog) == 700
    delivery = snapshot_sender(site.url, key_file, backlog)
    while len(backlog):
        assert delivery.step() == 0
    assert epoch_seconds(site.accepted_points()) == [at for at in times for _ in range(2)]
    assert [len(request["points"]) for request in site.requests] == [MAX_REQUEST_POINTS, 400]


def test_server_error_is_retried_with_the_same_points(
    site: ReceivingSite, key_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site.responses.extend([(503, {}, b"starting"), (500, {}, b""), (429, {}, b""), (408, {}, b"")])
    backlog = SnapshotQueue(1000)
    delivery = snapshot_sender(site.url, key_file, backlog)
    add_snapshots(backlog, 1)
    with caplog.at_level(logging.INFO):
        pauses = [delivery.step() for _ in range(5)]
    assert [request["status"] for request in site.requests] == [503, 500, 429, 408, 200]
    assert all(request["points"] == site.requests[0]["points"] for request in site.requests)
    assert pauses[-1] == 0
    assert all(2**n / 2 <= pause <= 2**n for n, pause in enumerate(pauses[:-1]))
    assert "the site is available again" in caplog.text


def test_backoff_grows_to_a_maximum_with_jitter() -> None:
    pauses = [[backoff.pause() for _ in range(40)] for backoff in (Backoff(random.Random(n)) for n in range(20))]
    assert max(map(max, pauses)) <= MAX_PAUSE
    assert all(pause >= MAX_PAUSE / 2 for series in pauses for pause in series[10:])
    assert len({series[3] for series in pauses}) == 20


def test_retry_after_is_accepted_as_seconds_and_as_a_date(site: ReceivingSite, key_file: Path) -> None:
    site.responses.append((429, {"Retry-After": "120"}, b""))
    site.responses.append((503, {"Retry-After": formatdate(time.time() + 300, usegmt=True)}, b""))
    site.responses.append((503, {"Retry-After": "99999999"}, b""))
    backlog = SnapshotQueue(10)
    delivery = snapshot_sender(site.url, key_file, backlog)
    add_snapshots(backlog, 1)
    assert delivery.step() == 120
    assert 250 < delivery.step() <= 300
    assert delivery.step() == 3600
    assert [parse_retry_after(header) for header in (None, "", "soon", "-5")] == [0, 0, 0, 0]


def test_rejected_snapshot_is_not_retried_and_the_reason_is_logged(
    site: ReceivingSite, key_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site.responses.append(
        (422, {}, b'{"detail": "no point is good", "errors": [{"field": "value", "detail": "no number"}]}')
    )
    backlog = SnapshotQueue(10)
    delivery = snapshot_sender(site.url, key_file, backlog)
    add_snapshots(backlog, 1)
    assert delivery.step() == 0
    add_snapshots(backlog, 1)
    assert delivery.step() == 0
    assert [request["status"] for request in site.requests] == [422, 200]
    assert delivery.rejected == 1
    assert "rejected with 422: no point is good: value: no number" in caplog.text


def test_rejected_points_of_a_partial_success_are_logged_and_not_retried(
    site: ReceivingSite, key_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site.responses.append(
        (200, {}, b'{"accepted": 1, "errors": [{"index": 1, "field": "value", "detail": "too high"}]}')
    )
    backlog = SnapshotQueue(10)
    add_snapshots(backlog, 1)
    assert snapshot_sender(site.url, key_file, backlog).step() == 0
    assert "1 points rejected: value: too high" in caplog.text
    assert len(backlog) == 0


def test_replaced_key_file_is_read_again(site: ReceivingSite, key_file: Path) -> None:
    backlog = SnapshotQueue(10)
    delivery = snapshot_sender(site.url, key_file, backlog)
    key_file.write_text("tk_new")
    site.responses.append((401, {}, b""))
    add_snapshots(backlog, 1)
    assert delivery.step() == 0
    assert [(request["key"], request["status"]) for request in site.requests] == [
        ("tk_of_this_machine", 401),
        ("tk_new", 200),
    ]


def test_full_queue_drops_the_oldest_snapshots_and_logs_it(
    site: ReceivingSite, key_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backlog = SnapshotQueue(50)
    site.responses.extend([(503, {}, b"")] * 3)
    delivery = snapshot_sender(site.url, key_file, backlog)
    times = add_snapshots(backlog, 50)
    delivery.step()
    times += add_snapshots(backlog, 20, start=times[-1] + 5)
    with caplog.at_level(logging.INFO):
        delivery.step()
        delivery.step()
        while len(backlog):
            delivery.step()
    assert backlog.dropped == 20
    assert epoch_seconds(site.accepted_points()) == [at for at in times[20:] for _ in range(2)]
    assert [record.message for record in caplog.records if "drop" in record.message] == [
        "the queue is full: 20 of the oldest snapshots dropped",
        "the site is available again: 0 snapshots queued, 20 dropped",
    ]


@pytest.mark.slow
def test_queue_of_six_hours_takes_less_than_three_megabytes() -> None:
    import tracemalloc

    tracemalloc.start()
    backlog = SnapshotQueue(6 * 720)
    add_snapshots(backlog, 7 * 720, width=25)
    allocated, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(backlog) == 6 * 720
    assert allocated < 3 * 2**20


def test_invalid_url_is_rejected_at_once(key_file: Path) -> None:
    for url in ("ftp://a", "http://", "127.0.0.1:8218", "http://a:99999", "http://[::1"):
        with pytest.raises(InvalidUrl):
            SiteClient(url, "a", key_file)


# --- the process ------------------------------------------------------------------------------------


def start_collector(**variables: str) -> "subprocess.Popen[str]":
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TELEMETRY_")}
    return subprocess.Popen(
        [sys.executable, "-m", "ingest.collectors.host"],
        cwd=ROOT, env=inherited | variables, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_collector_measures_on_each_tick_in_little_memory_and_stops_at_once(
    site: ReceivingSite, key_file: Path
) -> None:
    process = start_collector(
        TELEMETRY_URL=site.url, TELEMETRY_DEVICE_ID="this-machine", TELEMETRY_API_KEY_FILE=str(key_file)
    )
    try:
        with site.arrived:
            assert site.arrived.wait_for(lambda: site.requests, 15)
        resident = psutil.Process(process.pid).memory_info().rss
        stop_sent_at = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
        assert time.monotonic() - stop_sent_at < 1
    finally:
        process.kill()
        process.communicate()
    points = site.requests[0]["points"]
    assert {at % INTERVAL for at in epoch_seconds(points)} == {0}
    assert {"cpu_percent", "disk_percent", "network_rx_rate_mbps"} <= {point["metric_name"] for point in points}
    assert resident < 30 * 2**20


@pytest.mark.slow
def test_sigterm_stops_the_collector_during_a_pending_request(key_file: Path) -> None:
    silent = socketserver.TCPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)  # never accepts
    address = f"http://127.0.0.1:{silent.server_address[1]}"
    process = start_collector(TELEMETRY_URL=address, TELEMETRY_DEVICE_ID="m", TELEMETRY_API_KEY_FILE=str(key_file))
    try:
        silent.socket.settimeout(15)
        connection, _ = silent.socket.accept()  # the request is sent and gets no response
        process.send_signal(signal.SIGTERM)
        assert process.wait(9) == 0  # less than the request timeout
        connection.close()
    finally:
        process.kill()
        process.communicate()
        silent.server_close()


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({}, "TELEMETRY_URL is not set"),
        ({"TELEMETRY_URL": "http://a"}, "TELEMETRY_DEVICE_ID is not set"),
        ({"TELEMETRY_URL": "http://a", "TELEMETRY_DEVICE_ID": "d"}, "TELEMETRY_API_KEY_FILE is not set"),
        (
            {"TELEMETRY_URL": "gopher://a", "TELEMETRY_DEVICE_ID": "d", "TELEMETRY_API_KEY_FILE": "key"},
            "TELEMETRY_URL='gopher://a' cannot be used: a URL like http://127.0.0.1:8218 is accepted",
        ),
        (
            {"TELEMETRY_URL": "http://a", "TELEMETRY_DEVICE_ID": "d", "TELEMETRY_API_KEY_FILE": "/nowhere/key"},
            "TELEMETRY_API_KEY_FILE='/nowhere/key' cannot be used: No such file or directory",
        ),
    ],
)
def test_invalid_variable_prints_one_line_and_exits_with_code_2(variables: dict[str, str], line: str) -> None:
    process = start_collector(**variables)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 2
    assert errors.startswith(line)
    assert errors.count("\n") == 1


def test_ended_system_clock_interrupts_a_wait() -> None:
    clock = SystemClock()
    threading.Timer(0.01, clock.end).start()
    assert clock.wait(60)
