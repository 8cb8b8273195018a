"""The sensors of the machine, with a manual clock."""

import json
import logging
import math
import threading
import time

import psutil
import pytest

from ingest.collectors.clock import SystemClock
from ingest.collectors.measure_once import SETTLE_TIME, measure_once
from ingest.collectors.sensors import Measurement, Sensor, Sensors, host_sensors, named_temperatures

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


def test_ended_system_clock_interrupts_a_wait() -> None:
    clock = SystemClock()
    threading.Timer(0.01, clock.end).start()
    assert clock.wait(60)


def test_snapshot_is_a_batch_with_units_after_two_readings() -> None:
    clock = ManualClock()
    points = json.loads(measure_once(clock))["data_points"]
    assert clock.waits == [SETTLE_TIME]
    assert {point["timestamp"] for point in points} == {"2027-01-15T08:00:02.250000Z"}
    units = {point["metric_name"]: point.get("unit") for point in points}
    assert units["cpu_percent"] == "%" and units["network_rx_bytes"] == "B" and units["load_avg_1m"] is None
    assert "network_rx_rate_mbps" in units
