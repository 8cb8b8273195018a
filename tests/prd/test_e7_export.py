"""PRD epic 7, criterion by criterion: data export."""

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.conftest import ApiClient, point
from tests.prd.conftest import names


def export_path(**changes: Any) -> str:
    now = datetime.now(UTC)
    start, end = (moment.strftime("%Y-%m-%dT%H:%M:%SZ") for moment in (now - timedelta(hours=1), now + timedelta(1)))
    parameters = {
        "device_ids": "device_001",
        "metric_names": "temperature",
        "start_time": start,
        "end_time": end,
    } | changes
    return "export/csv?" + "&".join(f"{name}={value}" for name, value in parameters.items() if value is not None)


@pytest.fixture
def stored_point(sender: ApiClient) -> ApiClient:
    sender.post("devices/device_001/telemetry", point(value=25.5, unit="celsius", tags={"location": "room_1"}))
    return sender


def test_e7_us1_ac1_the_endpoint_returns_a_csv_file(stored_point: ApiClient) -> None:
    response = stored_point.get(export_path())
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("text/csv")


@pytest.mark.parametrize("name", ["device_ids", "metric_names", "start_time", "end_time"])
def test_e7_us1_ac2_devices_metrics_start_and_end_are_required(stored_point: ApiClient, name: str) -> None:
    response = stored_point.get(export_path(**{name: None}))
    assert response.status == 400
    assert names(response.json["errors"], "field") == [name]


def test_e7_us1_ac3_response_is_a_stream_with_a_file_name(stored_point: ApiClient) -> None:
    response = stored_point.get(export_path())
    assert response.headers["Content-Disposition"].startswith('attachment; filename="device_001_temperature_')
    assert response.headers["Content-Length"] is None


def test_e7_us1_ac4_columns_are_the_documented_ones(stored_point: ApiClient) -> None:
    [row] = csv.DictReader(io.StringIO(stored_point.get(export_path()).raw.decode()))
    assert list(row) == ["timestamp", "device_id", "metric_name", "value", "unit", "tags"]
    assert (row["device_id"], row["metric_name"], float(row["value"])) == ("device_001", "temperature", 25.5)
    assert row["unit"] == "celsius" and "room_1" in row["tags"]


def test_e7_us1_ac5_export_without_data_returns_404(stored_point: ApiClient) -> None:
    assert stored_point.get(export_path(device_ids="nobody")).status == 404


def test_e7_us1_ac6_export_starts_at_once(stored_point: ApiClient) -> None:
    started_at = datetime.now(UTC)
    assert stored_point.get(export_path()).status == 200
    assert datetime.now(UTC) - started_at < timedelta(seconds=1)
