"""Users see only devices of their groups, in lists, queries, streams and exports."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model

from metrics.devices import group_membership
from metrics.models import Device, DeviceGroup, Revision
from rest.caller import Caller, Scope
from tests.conftest import API, ApiClient, ApiResponse, point, with_token

VISIBLE_DEVICE, HIDDEN_DEVICE = "press-1", "furnace-9"


@pytest.fixture
def two_groups(admin: ApiClient) -> ApiClient:
    """A device in `site a`, one in `site b`, and points of both."""
    body = {VISIBLE_DEVICE: [point(value=1.0)], HIDDEN_DEVICE: [point(value=2.0)]}
    assert admin.post("bulk", body).status == 200
    for name, device in (("site a", VISIBLE_DEVICE), ("site b", HIDDEN_DEVICE)):
        group, _ = DeviceGroup.objects.get_or_create(name=name)
        group_membership.add_devices(group, Device.objects.filter(device_id=device).values_list("pk", flat=True))
    return admin


def read_requests() -> list[tuple[str, str, Any]]:
    """Return requests of all endpoints that read points, for both devices or for all."""
    now = datetime.now(UTC)
    times = {"start_time": (now - timedelta(hours=1)).isoformat(), "end_time": (now + timedelta(hours=1)).isoformat()}
    span = "&".join(f"{name}={value.replace('+', '%2B')}" for name, value in times.items())
    both = [VISIBLE_DEVICE, HIDDEN_DEVICE]
    return [
        ("POST", "query", {"metrics": ["temperature"], **times}),
        ("POST", "query", {"metrics": ["temperature"], "devices": both, **times}),
        ("POST", "query", {"metrics": ["temperature"], "filters": {"groups": ["site a", "site b"]}, **times}),
        ("POST", "query", {"metrics": ["temperature"], "aggregation": "max", "group_by": "group", **times}),
        ("POST", "query", {"metrics": ["temperature"], "aggregation": "max", "group_by": "all", **times}),
        ("POST", "latest", {"metrics": ["temperature"]}),
        ("POST", "latest", {"devices": both}),
        ("POST", "latest", {"groups": ["site b", "site a"]}),
        ("GET", f"aggregated?metric_name=temperature&aggregation_type=max&interval=7200&{span}", None),
        ("GET", f"export/csv?device_ids={VISIBLE_DEVICE},{HIDDEN_DEVICE}&metric_names=temperature&{span}", None),
        *(("GET", f"devices/{device}/metrics", None) for device in both),
        *(("GET", f"devices/{device}/metrics/temperature/latest", None) for device in both),
        *(("GET", f"devices/{device}/metrics/temperature/range", None) for device in both),
    ]


def read_everything(caller: ApiClient) -> str:
    """Return the bodies of all responses together."""
    texts = []
    for method, path, body in read_requests():
        response = caller.call(method, path, body)
        assert response.status in (200, 404), (path, response.raw)
        if response.status == 200:
            texts.append(response.raw.decode())
    return "\n".join(texts)


@pytest.mark.slow
def test_viewer_sees_only_devices_of_its_groups(two_groups: ApiClient, viewer: ApiClient, operator: ApiClient) -> None:
    people = [with_token(viewer.port, name) for name in ("viewer", "operator")]
    for caller in (viewer, operator, *people):
        text = read_everything(caller)
        assert VISIBLE_DEVICE in text
        assert '"value":1.0' in text
        assert '"value":2.0' not in text
        assert "site b" not in text
        assert "2.0" not in [line.split(",")[3:4] for line in text.splitlines()]


@pytest.mark.slow
def test_user_without_groups_sees_no_devices(two_groups: ApiClient, stranger: ApiClient) -> None:
    for caller in (stranger, with_token(stranger.port, "stranger")):
        text = read_everything(caller)
        assert '"value":' not in text
        assert '"temperature"' not in text.replace('"metric_name":"temperature"', "")


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["/api/v1/telemetry/", "/api/v1/"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_both_lanes_hide_the_latest_value_of_invisible_devices(
    two_groups: ApiClient, viewer: ApiClient, stranger: ApiClient, prefix: str, method: str
) -> None:
    port, path = two_groups.port, f"{prefix}devices/{HIDDEN_DEVICE}/metrics/temperature/latest"
    people = (viewer, stranger, with_token(port, "viewer"), with_token(port, "stranger"))
    assert [caller.call(method, path).status for caller in people] == [404] * 4
    assert two_groups.call(method, path).status == 200


@pytest.mark.slow
def test_admin_sees_all_devices(two_groups: ApiClient, administrator: ApiClient) -> None:
    text = read_everything(administrator)
    assert '"value":1.0' in text
    assert '"value":2.0' in text


@pytest.mark.parametrize(
    "path", ["/", "/devices/", f"/devices/{HIDDEN_DEVICE}/", "/exports/names/devices/?q=", "/overview/devices/"]
)
def test_pages_hide_devices_of_other_groups_from_viewer(two_groups: ApiClient, viewer: ApiClient, path: str) -> None:
    response = viewer.get(path)
    assert response.status in (200, 404), path
    assert HIDDEN_DEVICE not in response.raw.decode() or response.status == 404


def test_invisible_device_looks_like_a_missing_device(two_groups: ApiClient, viewer: ApiClient) -> None:
    for caller in (viewer, with_token(viewer.port, "viewer")):
        for template in ("devices/{}/metrics", "devices/{}/metrics/temperature/latest"):
            hidden, missing = caller.get(template.format(HIDDEN_DEVICE)), caller.get(template.format("no-such"))
            assert hidden.status == missing.status
            assert _without_names(hidden) == _without_names(missing)


def _without_names(response: ApiResponse) -> str:
    """Return a response body without the device and the request ID."""
    text = response.raw.decode().replace(HIDDEN_DEVICE, "").replace("no-such", "")
    return text.replace(response.headers["X-Request-Id"], "")


def test_background_export_has_only_devices_visible_to_its_owner(two_groups: ApiClient, viewer: ApiClient) -> None:
    from metrics.export import jobs
    from metrics.models import ExportJob

    now = datetime.now(UTC)
    body = {"device_ids": [VISIBLE_DEVICE, HIDDEN_DEVICE], "metric_names": ["temperature"]}
    body |= {"start_time": str(now - timedelta(hours=1)), "end_time": str(now + timedelta(hours=1))}
    response = viewer.post("export/jobs", body)
    assert response.status == 202, response.raw
    jobs.run_pending_jobs()
    assert ExportJob.objects.get().status == "done"
    exported = viewer.get(f"export/jobs/{response.json['id']}/download").raw.decode()
    assert VISIBLE_DEVICE in exported
    assert HIDDEN_DEVICE not in exported


def test_user_removed_from_group_no_longer_sees_its_devices(two_groups: ApiClient, viewer: ApiClient) -> None:
    assert VISIBLE_DEVICE in viewer.get(f"{API}/devices/{VISIBLE_DEVICE}/metrics/temperature/latest").raw.decode()
    DeviceGroup.objects.get(name="site a").members.clear()
    assert viewer.get(f"{API}/devices/{VISIBLE_DEVICE}/metrics/temperature/latest").status == 404


def test_membership_change_moves_the_revision(site: None) -> None:
    group, device = DeviceGroup.objects.create(name="g"), Device.objects.create(device_id="d")
    number = Revision.objects.get().number
    assert group_membership.add_devices(group, [device.pk]) == 1
    assert group_membership.add_devices(group, [device.pk]) == 0
    assert group_membership.remove_devices(group, [device.pk]) == 1
    device.groups.add(group)
    assert Revision.objects.get().number == number + 4


def test_users_have_the_scope_of_their_role(site: None) -> None:
    users = get_user_model().objects
    assert Caller.of_user(users.create_superuser("root")).scope == Scope.ADMIN
    assert Caller.of_user(users.create_user("clerk", is_staff=True)).scope == Scope.READ
    assert Caller.of_user(users.create_user("guest")).groups == ()


def test_only_admins_change_definitions(viewer: ApiClient, operator: ApiClient, administrator: ApiClient) -> None:
    body = {"name": "m", "data_type": "numeric"}
    assert [caller.post("metrics", body).status for caller in (viewer, operator, administrator)] == [403, 403, 201]


def test_requested_groups_are_limited_to_visible_ones() -> None:
    caller = Caller("user:v", Scope.READ, groups=("a", "b"))
    assert caller.narrowed(None) == ("a", "b")
    assert caller.narrowed(["b", "c"]) == ("b",)
    assert caller.narrowed(["c"]) == ()
    assert Caller("user:r", Scope.ADMIN).narrowed(["c"]) == ("c",)
    assert Caller("user:r", Scope.ADMIN).narrowed(None) is None
