"""PRD E6-US1 and E6-US2: statistics of devices and of the service, from stored counts."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from metrics import alert_summary
from metrics.devices import group_membership
from metrics.models import Device, DeviceGroup, MetricDefinition
from metrics.statistics import request_history
from metrics.statistics.inventory import device_statistics, service_statistics
from metrics.storage.connection import connect
from metrics.storage.merge import point_counts, schedule
from rest import request_stats
from rest.caller import Caller
from tests.conftest import ApiClient, point
from tests.metrics.statistics_steps import DEVICE, merge_all
from tests.metrics.test_storage import TODAY, store_points
from tests.prd.conftest import within_once

ADMIN = Caller.internal("test")
TYPES = {"gauge": 0, "counter": 0, "histogram": 0, "summary": 0}
ZERO = {
    "total_metrics": 0,
    "active_metrics": 0,
    "data_points_count": 0,
    "last_update": None,
    "storage_size": 0,
    "avg_frequency": 0.0,
    "last_24h_points": 0,
    "last_24h_alerts": 0,
    "metrics_by_type": TYPES,
    "top_metrics": [],
}


@pytest.fixture(params=["young", "merged", "day"])
def sent_points(request: pytest.FixtureRequest, admin: ApiClient) -> ApiClient:
    """Three points of one metric of `device_001` and two of another: unmerged, merged, or in day blocks."""
    MetricDefinition.objects.create(name="packets", data_type="numeric", metric_type="counter")
    rows = [point(seconds_ago=10), point(seconds_ago=3600), point(seconds_ago=50 * 3600)]
    old_points = [point("packets", 7, 80 * 3600), point("packets", 8, 81 * 3600)]
    assert admin.post("devices/device_001/telemetry/batch", {"data_points": [*rows, *old_points]}).status == 200
    if request.param != "young":
        merge_all()
    if request.param == "day":
        with connect() as connection:
            schedule.merge_days(connection, force=True)
    return admin


# --- E6-US1: device statistics ----------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["/api/v1/telemetry", "/api/v1"])
def test_e6_us1_ac1_device_statistics_have_an_endpoint(admin: ApiClient, prefix: str) -> None:
    response = admin.get(f"{prefix}/{DEVICE}")
    assert (response.status, response.json["device_id"]) == (200, "device_001")


def test_e6_us1_ac2_device_statistics_count_metrics_active_metrics_and_points(sent_points: ApiClient) -> None:
    stats = sent_points.get(DEVICE).json
    assert (stats["total_metrics"], stats["active_metrics"], stats["data_points_count"]) == (2, 1, 5)


def test_e6_us1_ac3_device_statistics_have_last_update_size_and_frequency(sent_points: ApiClient) -> None:
    stats = sent_points.get(DEVICE).json
    age = datetime.now(UTC) - datetime.fromisoformat(stats["last_update"])
    assert timedelta(seconds=9) < age < timedelta(seconds=40)
    assert stats["storage_size"] > 0
    # Two points since the beginning of the hour before this one, or the one before that at the turn of an hour.
    assert 2 / 181 <= stats["avg_frequency"] <= 2 / 59


def test_e6_us1_ac4_device_statistics_have_points_and_alerts_of_last_day(sent_points: ApiClient) -> None:
    stats = sent_points.get(DEVICE).json
    assert (stats["last_24h_points"], stats["last_24h_alerts"]) == (2, 0)


def test_e6_us1_ac5_device_statistics_have_metrics_by_type_and_top_metrics(sent_points: ApiClient) -> None:
    stats = sent_points.get(DEVICE).json
    assert stats["metrics_by_type"] == TYPES | {"gauge": 1, "counter": 1}
    assert stats["top_metrics"] == [{"name": "temperature", "points": 3}, {"name": "packets", "points": 2}]


def test_e6_us1_ac6_unknown_device_has_zero_statistics(admin: ApiClient) -> None:
    assert admin.get("devices/nobody/stats").json == {"device_id": "nobody"} | ZERO


@pytest.mark.slow
def test_e6_us1_ac7_device_statistics_respond_within_200_ms(sent_points: ApiClient) -> None:
    within_once(0.2, lambda: sent_points.get(DEVICE))


def test_metric_with_two_kinds_of_values_counts_once(admin: ApiClient) -> None:
    for value in (1.0, 2.0):
        admin.post("devices/device_001/telemetry", point("mode", value))
    MetricDefinition.objects.create(name="mode", data_type="string")
    from metrics.storage import series_registry

    series_registry.refresh_registry()
    assert admin.post("devices/device_001/telemetry", point("mode", "off")).status == 200
    stats = admin.get(DEVICE).json
    assert (stats["total_metrics"], stats["data_points_count"], stats["active_metrics"]) == (1, 3, 1)


def test_duplicate_point_counts_once_before_and_after_merge(admin: ApiClient) -> None:
    body = point()
    for _ in range(3):
        admin.post("devices/device_001/telemetry", body)
    assert admin.get(DEVICE).json["data_points_count"] == 1
    merge_all()
    admin.post("devices/device_001/telemetry", body)
    merge_all()
    with connect() as connection:
        schedule.merge_days(connection, force=True)
    stats = admin.get(DEVICE).json
    assert (stats["data_points_count"], stats["last_24h_points"]) == (1, 1)


def test_storage_size_excludes_other_devices_in_the_same_block(admin: ApiClient) -> None:
    text_points = [point("log", "x" * 50 + str(number), seconds_ago=number) for number in range(100)]
    admin.post("devices/wordy/telemetry/batch", {"data_points": text_points})
    admin.post("devices/device_001/telemetry", point())
    merge_all()
    total = admin.get("devices/wordy/stats").json["storage_size"] + admin.get(DEVICE).json["storage_size"]
    with connect() as connection:
        [(stored,)] = connection.execute("SELECT sum(octet_length(payload)) FROM metrics_block").fetchall()
    assert abs(total - stored) <= 1


# --- E6-US2: service statistics ---------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["/api/v1/telemetry", "/api/v1"])
def test_e6_us2_ac1_service_statistics_have_an_endpoint(admin: ApiClient, prefix: str) -> None:
    assert admin.get(f"{prefix}/stats").status == 200


def test_e6_us2_ac2_service_statistics_count_devices_metrics_and_points(sent_points: ApiClient) -> None:
    sent_points.post("devices/old/telemetry", point("humidity", seconds_ago=70 * 3600))
    stats = sent_points.get("stats").json
    names = ("total_devices", "active_devices", "total_metrics", "total_data_points")
    assert [stats[name] for name in names] == [2, 1, 3, 6]


def test_e6_us2_ac3_service_statistics_have_measured_rate_latency_and_errors(admin: ApiClient) -> None:
    request_stats.request_counters.reset()
    for number in range(10):
        admin.post("devices/device_001/telemetry/batch", {"data_points": [point(f"m{number}") for number in range(30)]})
        admin.get(f"devices/device_001/metrics/m{number}/latest")
    request_stats.request_counters.answered(
        request_stats.OTHER, 503, 0.5
    )  # an error that no request of this test can cause
    request_history.store_counters()
    stats = admin.get("stats").json
    assert 300 / 300 <= stats["points_per_second"] <= 300 / 239
    assert stats["requests"]["ingest"]["requests"] == 10 and stats["requests"]["other"]["requests"] == 11
    assert stats["error_rate"] == pytest.approx(1 / 21, abs=1e-6)
    assert stats["requests"]["ingest"]["error_rate"] == 0.0
    assert 500 / 21 < stats["avg_latency"] < 1000
    assert 0 < stats["requests"]["ingest"]["avg_latency"] < 1000
    assert stats["requests"]["other"]["p95_latency"] == pytest.approx(500, rel=0.25)


def test_e6_us2_ac4_service_statistics_have_points_and_alerts_of_last_day(sent_points: ApiClient) -> None:
    stats = sent_points.get("stats").json
    assert (stats["last_24h_points"], stats["last_24h_alerts"]) == (2, 0)


def test_e6_us2_ac5_service_statistics_have_types_and_hours(sent_points: ApiClient) -> None:
    stats = sent_points.get("stats").json
    assert sum(stats["devices_by_type"].values()) == 1
    assert stats["metrics_by_type"] == TYPES | {"gauge": 1, "counter": 1}
    hours = [datetime.fromisoformat(row["hour"]) for row in stats["data_by_hour"]]
    assert len(hours) == 24 and {b - a for a, b in zip(hours[:-1], hours[1:], strict=True)} == {timedelta(hours=1)}
    assert timedelta(0) <= datetime.now(UTC) - hours[-1] < timedelta(hours=1, seconds=5)
    assert sum(row["points"] for row in stats["data_by_hour"]) == 2


def test_e6_us2_ac6_empty_service_has_zero_statistics(admin: ApiClient) -> None:
    stats = admin.get("stats").json
    assert [row["points"] for row in stats.pop("data_by_hour")] == [0] * 24
    counts = {name: stats[name] for name in stats if name.startswith(("total", "active", "last", "points"))}
    assert set(counts.values()) == {0}
    assert stats["devices_by_type"] == {} and stats["metrics_by_type"] == TYPES


@pytest.mark.slow
def test_e6_us2_ac7_service_statistics_respond_within_300_ms(sent_points: ApiClient) -> None:
    within_once(0.3, lambda: sent_points.get("stats"))


def test_points_count_in_the_hour_of_their_timestamp(site: None) -> None:
    now = datetime(2024, 10, 4, 12, 30, tzinfo=UTC)  # the day TODAY
    noon = TODAY + 12 * point_counts.HOUR
    store_points([(1, noon - hours * point_counts.HOUR, 1.0, b"") for hours in (0, 0, 1, 23, 24)])
    rows = {row["hour"]: row["points"] for row in service_statistics(ADMIN, now)["data_by_hour"] if row["points"]}
    # The two points at noon have the same time, so one replaces the other.
    assert rows == {"2024-10-04T12:00:00Z": 1, "2024-10-04T11:00:00Z": 1, "2024-10-03T13:00:00Z": 1}


def test_rejected_points_count_as_rejected_and_not_as_stored(admin: ApiClient) -> None:
    request_stats.request_counters.reset()
    admin.post("devices/device_001/telemetry/batch", {"data_points": [point(), point(seconds_ago=-900)]})
    assert admin.post("devices/device_001/telemetry", point(seconds_ago=-900)).status == 422
    request_history.store_counters()
    with connect() as connection:
        ingest = request_history.read_recent(connection).kinds[request_stats.INGEST]
    assert (ingest.requests, ingest.points, ingest.rejected, ingest.failures) == (2, 1, 2, 0)


# --- visibility -------------------------------------------------------------------------------------


@pytest.fixture
def two_groups(admin: ApiClient) -> ApiClient:
    """Device `mine` in `site a` and device `theirs` in `site b`, with merged and unmerged points."""
    for number in range(3):
        for device, metric_count in (("mine", 2), ("theirs", 5)):
            rows = [point(f"{device}_{metric}", seconds_ago=number) for metric in range(metric_count)]
            admin.post(f"devices/{device}/telemetry/batch", {"data_points": rows})
        if number == 1:
            merge_all()
    for group, device in (("site a", "mine"), ("site b", "theirs")):
        row, _ = DeviceGroup.objects.get_or_create(name=group)
        group_membership.add_devices(row, Device.objects.filter(device_id=device).values_list("pk", flat=True))
    return admin


def service_counts(caller: ApiClient) -> list[Any]:
    stats = caller.get("stats").json
    assert sum(row["points"] for row in stats["data_by_hour"]) == stats["last_24h_points"]
    names = ("total_devices", "active_devices", "total_metrics", "total_data_points", "last_24h_points")
    return [stats[name] for name in names] + [sum(stats["devices_by_type"].values()), stats["metrics_by_type"]["gauge"]]


def test_service_statistics_cover_only_visible_devices(
    two_groups: ApiClient, viewer: ApiClient, stranger: ApiClient
) -> None:
    assert service_counts(two_groups) == [2, 2, 7, 21, 21, 2, 7]
    assert service_counts(viewer) == [1, 1, 2, 6, 6, 1, 2]
    assert service_counts(stranger) == [0] * 7


def test_invisible_device_has_the_statistics_of_a_missing_device(
    two_groups: ApiClient, viewer: ApiClient, stranger: ApiClient
) -> None:
    assert viewer.get("devices/mine/stats").json["data_points_count"] == 6
    for caller, device in ((viewer, "theirs"), (stranger, "mine")):
        response = caller.get(f"devices/{device}/stats")
        assert (response.status, response.json) == (200, {"device_id": device} | ZERO)


def test_device_key_sees_only_its_own_statistics(two_groups: ApiClient, device: ApiClient) -> None:
    device.post("devices/device_001/telemetry", point())
    assert device.get(DEVICE).json["data_points_count"] == 1
    assert device.get("devices/mine/stats").status == 403 and device.get("stats").status == 403


def test_request_statistics_are_the_same_for_all_callers(two_groups: ApiClient, stranger: ApiClient) -> None:
    request_history.store_counters()
    assert stranger.get("stats").json["points_per_second"] > 0


class FixedAlertSummary:
    """An alert summary with fixed counts."""

    def health(self) -> tuple[str, str]:
        return "healthy", ""

    def count_last_day(self, caller: Caller, device_id: str | None) -> int:
        return 4 if device_id is None else 2


@pytest.fixture
def alerts() -> Iterator[None]:
    previous = alert_summary.registered_summary()
    alert_summary.register_alert_summary(FixedAlertSummary())
    yield
    alert_summary.register_alert_summary(previous)


def test_alert_counts_come_from_the_registered_alert_summary(alerts: None, admin: ApiClient) -> None:
    assert admin.get("stats").json["last_24h_alerts"] == 4
    assert admin.get(DEVICE).json["last_24h_alerts"] == 2


# --- database statements ----------------------------------------------------------------------------


def test_statistics_read_no_blocks(sent_points: ApiClient) -> None:
    with connect() as connection, connection.transaction():
        connection.execute("LOCK TABLE metrics_block")  # a read of the table would wait and fail
        assert device_statistics(ADMIN, "device_001")["data_points_count"] == 5
        assert service_statistics(ADMIN)["total_data_points"] == 5
