"""A deleted device disappears at once and its points soon, and points on their way to it go to a new device."""

import io
import json
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import numpy as np
import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.test import Client

from ingest.models import ApiKey, Rejected
from ingest.pipeline import accept
from ingest.rejected.inbox import rejected_inbox
from ingest.wire.telemetry_json import decode_batch
from metrics import tasks
from metrics.devices import delete_device
from metrics.models import Deletion, Device, DeviceGroup, Revision, Series
from metrics.storage import series_ids, series_registry
from metrics.storage.connection import connect
from metrics.storage.errors import DeviceDeleted
from metrics.storage.locks import lock_day
from metrics.storage.merge import restore_damaged
from metrics.storage.merge import schedule as merge
from metrics.storage.units import to_microseconds
from metrics.storage.write.group_commit import JournalEntry, writer
from metrics.storage.write.incoming import IncomingPoints
from rest.caller import Caller, Scope
from rest.errors import NotFound
from tests.conftest import ApiClient, point
from tests.metrics.deletion_steps import ADMIN, count_points_by_table, finish_deletions, merge_all
from tests.metrics.test_storage import shards

__all__ = ["shards"]


def series_of(device_id: str) -> set[int]:
    return set(Series.objects.filter(device__device_id=device_id).values_list("pk", flat=True))


@pytest.fixture
def fleet(admin: ApiClient) -> ApiClient:
    """Two devices with points of yesterday in day blocks with rollups, and with unmerged points of now."""
    for ago in (90_000, 86_400, 600):
        body = {
            device: [point(metric, float(n), ago + 20 * n) for metric in ("temperature", "load") for n in range(20)]
            for device in ("press-1", "press-2")
        }
        assert admin.post("bulk", body).json["failed_count"] == 0
        if ago > 600:
            merge_all()
    return admin


def read_device(caller: ApiClient, device_id: str) -> list[Any]:
    """Read everything that the API returns of a device's points."""
    now = datetime.now(UTC)
    times = {"start_time": (now - timedelta(days=3)).isoformat(), "end_time": (now + timedelta(hours=1)).isoformat()}
    return [
        caller.get(f"devices/{device_id}/metrics").json,
        caller.get(f"devices/{device_id}/metrics/temperature/latest").status,
        caller.post("latest", {"devices": [device_id]}).json["series"],
        caller.post("query", {"devices": [device_id], "metrics": ["temperature"], **times}).json["data_points"],
    ]


@pytest.mark.slow
def test_deleted_device_disappears_from_responses_at_once_and_from_storage_later(fleet: ApiClient):
    numbers, other_device = series_of("press-1"), read_device(fleet, "press-2")
    assert count_points_by_table(numbers).keys() == {
        "metrics_young",
        "metrics_block",
        "metrics_latest",
        "metrics_rollup",
    }
    delete_device.delete_device("press-1", ADMIN)
    assert read_device(fleet, "press-1") == [[], 404, [], []]
    finish_deletions()
    assert count_points_by_table(numbers) == {}
    deletion = Deletion.objects.get()
    assert (deletion.status, deletion.progress, deletion.points, deletion.incomplete) == ("done", 1.0, 120, [])
    assert read_device(fleet, "press-2") == other_device
    assert len(count_points_by_table(series_of("press-2"))) == 3  # blocks, rollups and latest points


@pytest.mark.slow
def test_deletion_waits_until_the_last_commits_of_the_device_are_merged(fleet: ApiClient):
    delete_device.delete_device("press-1", ADMIN)
    assert tasks.remove_deleted() == 0 and Deletion.objects.get().status == "queued"
    with connect() as connection:
        merge._merge_commits_once(connection, 0, force=True)
    tasks.remove_deleted()
    assert Deletion.objects.get().status == "ending"  # followers can still read those commits
    merge_all()
    tasks.remove_deleted()
    assert Deletion.objects.get().status == "done"


@pytest.mark.slow
def test_device_that_sends_after_deletion_gets_new_series_ids(fleet: ApiClient):
    numbers = series_of("press-1")
    fleet.post("devices/press-1/telemetry/batch", {"batch_id": "b1", "data_points": [point()]})
    delete_device.delete_device("press-1", ADMIN)
    series_registry.refresh_registry()
    response = fleet.post("devices/press-1/telemetry/batch", {"batch_id": "b1", "data_points": [point(value=7.0)]})
    assert response.status == 200 and response.json["ingested_count"] == 1  # the batch ID was deleted with the device
    assert series_of("press-1").isdisjoint(numbers)
    finish_deletions()
    assert fleet.get("devices/press-1/metrics/temperature/latest").json["value"] == 7.0
    assert read_device(fleet, "press-1")[0] == ["temperature"]


def test_ids_of_deleted_series_are_never_reused(site):
    device = Device.objects.create(device_id="d")
    for number in (7, 500):
        Series.objects.create(pk=number, device=device, metric_name=f"m{number}", kind=0)
    with connect() as connection:
        connection.execute("SELECT setval(pg_get_serial_sequence('metrics_series', 'id'), 500)")
        delete_device.delete_device("d", ADMIN)
        with connection.transaction():
            series_ids.lock_series_ids(connection)
            assert min(series_ids.allocate_series_ids(connection, ["a", "b"])) > 500


def test_api_keys_of_a_deleted_device_are_rejected(device: ApiClient):
    assert device.post("devices/device_001/telemetry", point()).status == 200
    delete_device.delete_device("device_001", ADMIN)
    series_registry.refresh_registry()
    assert device.post("devices/device_001/telemetry", point()).status == 401
    assert not ApiKey.objects.exists()


def submit_points(series: list[int], series_revision: int) -> None:
    now = to_microseconds(datetime.now(UTC))
    arrivals = IncomingPoints(np.array(series, np.int64), np.full(len(series), now), np.ones(len(series)))
    writer().submit([arrivals], JournalEntry("late", 0.0, len(series)), series_revision=series_revision)


def test_requests_with_series_resolved_before_the_deletion_are_rejected_completely(shards, site):
    device = [Device.objects.create(device_id=name) for name in ("d", "e")]
    for number in (1, 300, 2, 301):
        Series.objects.create(pk=number, device=device[number in (2, 301)], metric_name=f"m{number}", kind=0)
    old_revision = Revision.objects.get().number
    submit_points([1, 300, 2], old_revision)
    delete_device.delete_device("d", ADMIN)
    for series in ([1], [300], [2, 300]):
        with pytest.raises(DeviceDeleted, match="send them again"):
            submit_points(series, old_revision)
    submit_points([2, 301], old_revision)  # series of another device, resolved before
    submit_points([2, 301], Revision.objects.get().number)
    with pytest.raises(DeviceDeleted):  # also when this writer knows of the deletion
        submit_points([1], old_revision)
    finish_deletions()
    assert count_points_by_table({1, 300}) == {} and count_points_by_table({2, 301})


def use_outdated_registry(registry: series_registry.SeriesRegistry) -> None:
    """Use a registry as in a process that another one's change has not reached yet."""
    series_registry._registry, series_registry._required_revision = registry, 0
    series_registry._refreshed_at = monotonic()


@pytest.mark.slow
def test_points_on_their_way_to_a_deleted_device_are_stored_for_a_new_device(fleet: ApiClient):
    registry, old_series = series_registry.cached_registry(), series_of("press-1")
    delete_device.delete_device("press-1", ADMIN)
    use_outdated_registry(registry)
    body = {"batch_id": "b7", "data_points": [point(value=3.0) for _ in range(50)]}
    response = fleet.post("devices/press-1/telemetry/batch", body)
    assert (response.status, response.json["ingested_count"]) == (200, 50), response.raw
    use_outdated_registry(registry)
    assert fleet.post("devices/press-1/telemetry", point(value=4.0, seconds_ago=-1)).status == 200
    use_outdated_registry(registry)
    encoded = json.dumps({"data_points": [point(value=5.0, seconds_ago=-2)]}).encode()
    accept(decode_batch(encoded, "press-1", len(encoded)), ADMIN)
    assert series_of("press-1").isdisjoint(old_series)
    assert fleet.get("devices/press-1/metrics/temperature/latest").json["value"] == 5.0


def test_rejected_points_of_a_repeated_validation_are_counted_once(fleet: ApiClient):
    registry = series_registry.cached_registry()
    delete_device.delete_device("press-1", ADMIN)
    use_outdated_registry(registry)
    points = [point(value=3.0), point(seconds_ago=5_000 * 86_400)]
    assert fleet.post("devices/press-1/telemetry/batch", {"data_points": points}).json["failed_count"] == 1
    rejected_inbox().flush()
    assert [row.count for row in Rejected.objects.all()] == [1]


def test_credential_that_a_deletion_invalidated_creates_no_new_device(device: ApiClient, web_port: int):
    group = DeviceGroup.objects.create(name="presses")
    group.devices.add(Device.objects.get(device_id="device_001"))
    _, key = ApiKey.issue("gateway", Scope.INGEST, group=group)
    for caller, status in ((device, 401), (ApiClient(web_port, {"X-Api-Key": key}), 403)):
        assert caller.post("devices/device_001/telemetry", point()).status == 200
        registry = series_registry.cached_registry()
        delete_device.delete_device("device_001", ADMIN)
        use_outdated_registry(registry)
        assert caller.post("devices/device_001/telemetry", point()).status == status
        assert not Device.objects.exists()
        if status == 401:
            group.devices.add(Device.objects.create(device_id="device_001"))


def test_new_metric_of_a_just_deleted_device_creates_a_new_device(fleet: ApiClient):
    registry = series_registry.cached_registry()
    delete_device.delete_device("press-1", ADMIN)
    use_outdated_registry(registry)
    assert fleet.post("devices/press-1/telemetry", point("humidity", 40.0)).status == 200
    assert Device.objects.filter(device_id="press-1").count() == 1
    assert fleet.get("devices/press-1/metrics/humidity/latest").json["value"] == 40.0


def test_deleting_a_device_twice_returns_the_same_deletion(fleet: ApiClient):
    deletion = delete_device.delete_device("press-1", ADMIN)
    assert delete_device.delete_device("press-1", ADMIN).deletion_id == deletion.deletion_id
    finish_deletions()
    with pytest.raises(NotFound, match="press-1 does not exist"):
        delete_device.delete_device("press-1", ADMIN)


def test_caller_without_access_to_a_device_cannot_delete_it(fleet: ApiClient):
    stranger = Caller("user:stranger", Scope.ADMIN, groups=("site b",))
    with pytest.raises(NotFound):
        delete_device.delete_device("press-1", stranger)
    delete_device.delete_device("press-1", ADMIN)
    with pytest.raises(NotFound):
        delete_device.delete_device("press-1", stranger)


@pytest.mark.slow
def test_day_locked_by_a_merge_is_processed_by_the_next_run(fleet: ApiClient):
    merge_all()
    delete_device.delete_device("press-1", ADMIN)
    with connect() as other, other.transaction():
        for bucket, day in other.execute("SELECT DISTINCT bucket, day FROM metrics_block").fetchall():
            assert lock_day(other, bucket, day)
        assert tasks.remove_deleted() == 0 and Deletion.objects.get().status == "running"
    finish_deletions()
    assert Deletion.objects.get().status == "done"


@pytest.mark.slow
def test_deletions_of_many_devices_share_one_pass_over_the_stored_days(admin: ApiClient):
    admin.post("bulk", {f"d{n}": [point("temperature", 1.0), point("load", 1.0)] for n in range(30)})
    merge_all()
    numbers = set(Series.objects.values_list("pk", flat=True))
    for n in range(30):
        delete_device.delete_device(f"d{n}", ADMIN)
    buckets = len({number // 256 for number in numbers})
    assert tasks.remove_deleted() <= 3 * buckets + 2  # not 30 passes
    assert count_points_by_table(numbers) == {}
    assert set(Deletion.objects.values_list("status", "points")) == {("done", 2)}


@pytest.mark.slow
def test_restored_block_has_no_points_of_a_deleted_device(fleet: ApiClient):
    merge_all()
    numbers = series_of("press-1")
    with connect() as connection:
        flip_byte = "UPDATE {} SET payload = set_byte(payload, 5, get_byte(payload, 5) # 255) WHERE id = %s"
        [(block,)] = connection.execute("SELECT min(id) FROM metrics_block").fetchall()
        connection.execute(flip_byte.format("metrics_block"), (block,))
        delete_device.delete_device("press-1", ADMIN)
        finish_deletions()
        assert Deletion.objects.get().incomplete == [f"merged block {block}"]
        [(quarantined,)] = connection.execute("SELECT id FROM metrics_damagedblock").fetchall()
        connection.execute(flip_byte.format("metrics_damagedblock"), (quarantined,))
        assert restore_damaged.restore_readable_blocks(connection) == 1
    assert count_points_by_table(numbers) == {}
    assert len(read_device(fleet, "press-2")[3]) == 60


def test_delete_device_command_creates_a_deletion(fleet: ApiClient):
    output = io.StringIO()
    call_command("delete_device", "press-1", "--yes", stdout=output)
    assert Deletion.objects.get().deletion_id in output.getvalue()
    assert not Device.objects.filter(device_id="press-1").exists()
    with pytest.raises(CommandError, match="nothing does not exist"):
        call_command("delete_device", "nothing", "--yes")


@pytest.mark.slow
def test_deleting_in_the_admin_creates_deletions(fleet: ApiClient, admin_browser: Client):
    selected = Device.objects.get(device_id="press-1").pk
    body = {"action": "delete_selected", "_selected_action": [selected]}
    page = admin_browser.post("/admin/metrics/device/", body).content.decode()
    assert "Are you sure" in page and "press-1" in page and Device.objects.filter(pk=selected).exists()
    admin_browser.post("/admin/metrics/device/", body | {"post": "yes"})
    admin_browser.post(f"/admin/metrics/device/{Device.objects.get(device_id='press-2').pk}/delete/", {"post": "yes"})
    assert not Device.objects.exists()
    assert {deletion.device_id for deletion in Deletion.objects.all()} == {"press-1", "press-2"}
    assert Deletion.objects.first().requested_by == "user:root"


@pytest.fixture
def admin_browser(site: None) -> Client:
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("root"))
    return client
