"""Measurements of the machine, custom probes and StatsD."""

import json
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.agent import machine
from ingest.agent.config import Probe
from ingest.agent.machine import READERS, CpuTimes, Traffic
from ingest.agent.measure import HostMeasurement, nested_snapshot
from ingest.agent.probes import Probes, parse_output, read_probe
from ingest.agent.statsd import MAX_METRICS, StatsdMetrics
from ingest.agent.units import UNITS
from ingest.collectors.clock import SystemClock
from ingest.collectors.sensors import Sensors, host_sensors
from ingest.wire.snapshot import decode_snapshot
from tests.ingest.test_snapshot import FLAT


@pytest.fixture(params=["psutil", "proc"])
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "proc":
        monkeypatch.setattr(machine, "psutil", None)
    return str(request.param)


def test_every_field_of_the_document_is_measured(source: str) -> None:
    host = HostMeasurement()
    host.fields()
    time.sleep(0.1)
    fields = host.fields()
    assert {*fields, "node_id", "timestamp"} >= set(FLAT)
    assert fields["memory_total_mb"] == round(psutil.virtual_memory().total / 2**20, 1)
    assert abs(fields["uptime_seconds"] - (time.time() - psutil.boot_time())) < 5
    assert 0 <= fields["cpu_percent"] <= 100
    assert fields["network_rx_bytes"] <= psutil.net_io_counters().bytes_recv
    assert abs(fields["process_count"] - len(psutil.pids())) < 50
    body = json.dumps({"node_id": "box", "timestamp": "2027-01-01T00:00:00Z", **fields}).encode()
    assert decode_snapshot(body).rejected == []


def test_agent_and_collectors_of_the_site_measure_the_same_metrics() -> None:
    sensors, host = Sensors(host_sensors(SystemClock())), HostMeasurement()
    for _ in range(2):
        measured, fields = sensors.read(), host.fields()
        time.sleep(0.05)
    assert {measurement.metric for measurement in measured} == set(fields)
    units = {measurement.metric: measurement.unit for measurement in measured if measurement.unit}
    assert units.items() <= {**UNITS, **{name: "°C" for name in units if name.startswith("temperature_")}}.items()


def test_temperatures_and_disks_are_read_without_psutil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "hwmon/hwmon0/name": "coretemp\n",
        "hwmon/hwmon0/temp1_input": "45500\n",
        "hwmon/hwmon0/temp1_label": "Core 0\n",
        "hwmon/hwmon0/temp2_input": "46000\n",
        "hwmon/hwmon0/temp2_label": "Core 0\n",
        "hwmon/hwmon1/name": "nvme\n",
        "hwmon/hwmon1/temp1_input": "asleep\n",
        "block/sda/size": "1",
        "block/dm-0/size": "1",
        "diskstats": "8 0 sda 1 0 100 0 1 0 200 0\n8 1 sda1 1 0 90 0 1 0 90 0\n253 0 dm-0 1 0 100 0 1 0 200 0\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for name, path in (("psutil", None), ("_HWMON", tmp_path / "hwmon"), ("_SYS_BLOCK", tmp_path / "block")):
        monkeypatch.setattr(machine, name, path)
    monkeypatch.setattr(machine, "_PROC", tmp_path)
    host = HostMeasurement({name: READERS[name] for name in ("temperatures", "disk_io")})
    assert host.fields() == {"temperature_coretemp_core_0": 45.5, "temperature_coretemp_core_0_2": 46.0}
    assert machine.disk_io() == (100 * 512, 200 * 512)


def test_readings_of_psutil_and_proc_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("memory", "network", "processes")
    by_psutil = [READERS[name]() for name in names]
    monkeypatch.setattr(machine, "psutil", None)
    by_proc = [READERS[name]() for name in names]
    assert by_proc[0].total == by_psutil[0].total
    assert by_proc[0].used == pytest.approx(by_psutil[0].used, rel=0.2)
    assert by_proc[1].received == pytest.approx(by_psutil[1].received, rel=0.1)


def test_rates_are_computed_from_two_readings_and_left_out_after_a_reset() -> None:
    now = [0.0]
    cpu = iter([CpuTimes(10, 100), CpuTimes(60, 200), CpuTimes(5, 10)])
    network = iter([Traffic(0, 0), Traffic(10_000_000, 5_000_000), Traffic(0, 0)])
    readers = {"cpu": lambda: next(cpu), "network": lambda: next(network)}
    host = HostMeasurement(readers, lambda: now[0])
    assert host.fields() == {"network_rx_bytes": 0, "network_tx_bytes": 0}
    now[0] = 10.0
    assert host.fields() == {
        "cpu_percent": 50.0,
        "network_rx_bytes": 10_000_000,
        "network_tx_bytes": 5_000_000,
        "network_rx_rate_mbps": 8.0,
        "network_tx_rate_mbps": 4.0,
    }
    now[0] = 20.0
    assert host.fields() == {"network_rx_bytes": 0, "network_tx_bytes": 0}


def test_failing_reader_leaves_only_its_fields_out(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> Any:
        raise OSError("gone")

    host = HostMeasurement({**READERS, "memory": fail})
    for _ in range(3):
        fields = host.fields()
    assert "memory_percent" not in fields
    assert "disk_percent" in fields
    assert caplog.text.count("memory cannot be measured: gone") == 1


def test_nested_format_has_the_groups_of_the_document() -> None:
    nested = nested_snapshot({**FLAT, "room.temperature": 21.5})
    assert (nested["node_id"], nested["timestamp"]) == (FLAT["node_id"], FLAT["timestamp"])
    metrics = nested["metrics"]
    assert set(metrics) == {"cpu", "memory", "disk", "network", "processes", "custom"}
    assert metrics["cpu"]["cpu_usage_percent"] == 45.2
    assert metrics["memory"]["memory_usage_percent"] == 67.8
    assert metrics["disk"]["disk_usage"]["/"]["percent"] == 82.1
    assert metrics["network"]["bytes_sent_mb_per_sec"] == 0.1875
    assert metrics["processes"]["process_count"] == 234
    assert metrics["custom"] == {"room.temperature": 21.5}
    assert decode_snapshot(json.dumps(nested).encode()).rejected == []


@pytest.mark.parametrize(
    ("output", "fields"),
    [
        (b"42\n", {"x": 42}),
        (b" 2.5 ", {"x": 2.5}),
        (b'{"a": 1, "b": {"c": true, "d": "on"}}', {"x.a": 1, "x.b.c": True, "x.b.d": "on"}),
    ],
)
def test_output_is_a_number_or_an_object(output: bytes, fields: dict[str, Any]) -> None:
    assert parse_output("x", output) == fields


@pytest.mark.parametrize("output", [b"", b"hello", b"NaN", b"null", b"[1]", b"{}", b'{"a": null}', b"1" * 70_000])
def test_other_output_is_refused(output: bytes) -> None:
    with pytest.raises(ValueError, match=r"is not a number|neither|values|bytes"):
        parse_output("x", output)


def test_command_is_run_and_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "value").write_text("7.5")
    assert read_probe(Probe("a", 1, command=("echo", '{"b": 1}'))) == {"a.b": 1}
    assert read_probe(Probe("c", 1, path=tmp_path / "value")) == {"c": 7.5}


@pytest.mark.slow
def test_command_that_does_not_end_is_killed_with_its_children(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    script = f"(sleep 1; touch {mark}) & sleep 30"
    started = time.perf_counter()
    with pytest.raises(ValueError, match=r"no end after 0\.2 s"):
        read_probe(Probe("a", 1, command=("sh", "-c", script), timeout=0.2))
    assert time.perf_counter() - started < 1
    time.sleep(1.0)
    assert not mark.exists()


@pytest.mark.parametrize("command", ["false", "/no/such/program", "echo x"])
def test_failing_probe_is_logged_once(command: str, caplog: pytest.LogCaptureFixture) -> None:
    probes = Probes([], lambda _: True)
    probe = Probe("a", 1, command=tuple(command.split()))
    for _ in range(3):
        probes.run(probe)
    assert (probes.take(), probes.failing) == ({}, {"a"})
    assert caplog.text.count("probe a failed") == 1


def test_statsd_values_are_summarised_per_interval() -> None:
    metrics = StatsdMetrics()
    metrics.add_packet(b"hits:1|c\nhits:2|c|@0.5\nroom:20|g\nroom:+1.5|g\nusers:a|s\nusers:b|s\nusers:a|s\n")
    metrics.add_packet(b"\n".join(b"call:%d|ms" % value for value in range(1, 101)))
    assert metrics.take() == {
        "hits": 5.0,
        "room": 21.5,
        "users": 2.0,
        "call.count": 100.0,
        "call.mean": 50.5,
        "call.p95": 95.0,
        "call.max": 100.0,
    }
    assert metrics.take() == {}
    metrics.add_packet(b"room:-1|g")
    assert metrics.take() == {"room": 20.5}


@pytest.mark.slow
@given(
    st.lists(
        st.one_of(st.binary(max_size=40), st.from_regex(r"[a:|@.\-0-9cgms]{0,12}", fullmatch=True).map(str.encode))
    )
)
def test_any_packet_leaves_finite_values(packets: list[bytes]) -> None:
    metrics = StatsdMetrics()
    for packet in packets:
        metrics.add_packet(packet)
    json.dumps(metrics.take(), allow_nan=False)


def test_number_of_statsd_names_is_limited() -> None:
    metrics = StatsdMetrics()
    metrics.add_packet(b"\n".join(b"n%d:1|c" % index for index in range(MAX_METRICS + 50)))
    assert len(metrics.take()) == MAX_METRICS
    assert metrics.invalid == 50
