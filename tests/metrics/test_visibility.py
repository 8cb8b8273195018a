"""Users see only devices of their groups, in lists, queries, streams and exports."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model

from metrics.devices import group_membership
from metrics.models import Device, DeviceGroup, Revision
from rest.caller import Caller, Scope
from tests.conftest import API, ApiClient, ApiResponse, point

OURS, THEIRS = "press-1", "furnace-9"


@pytest.fixture
def two_groups(admin: ApiClient) -> ApiClient:
    """A device in `site a`, one in `site b`, and points of both."""
    body = {OURS: [point(value=1.0)], THEIRS: [point(value=2.0)]}
    assert admin.post("bulk", body).status == 200
    for name, device in (("site a", OURS), ("site b", THEIRS)):
        group, _ = DeviceGroup.objects.get_or_create(name=name)
        group_membership.add_devices(group, Device.objects.filter(device_id=device).values_list("pk", flat=True))
    return admin


def read_requests() -> list[tuple[str, str, Any]]:
    """Return requests of all endpoints that read points, for both devices or for all."""
    now = datetime.now(UTC)
    times = {"start_time": (now - timedelta(hours=1)).isoformat(), "end_time": (now + timedelta(hours=1)).isoformat()}
    span = "&".join(f"{name}={value.replace('+', '%2B')}" for name, value in times.items())
    both = [OURS, THEIRS]
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
        ("GET", f"export/csv?device_ids={OURS},{THEIRS}&metric_names=temperature&{span}", None),
        *(("GET", f"devices/{device}/metrics", None) for device in both),
        *(("GET", f"devices/{device}/metrics/temperature/latest", None) for device in both),
        *(("GET", f"devices/{device}/metrics/temperature/range", None) for device in both),
    ]


def read_everything(caller: ApiClient) -> str:
    """Return the bodies of all responses together."""
    texts = []
    for method, path, body in read_requests():
        answer = caller.call(method, path, body)
        assert answer.status in (200, 404), (path, answer.raw)
        if answer.status == 200:
            texts.append(answer.raw.decode())
    return "\n".join(texts)


def test_viewer_sees_only_devices_of_its_groups(two_groups: ApiClient, viewer: ApiClient, operator: ApiClient) -> None:
    for somebody in (viewer, operator):
        heard = read_everything(somebody)
        assert OURS in heard
        assert '"value":1.0' in heard
        assert '"value":2.0' not in heard
        assert "site b" not in heard
        assert "2.0" not in [line.split(",")[3:4] for line in heard.splitlines()]


def test_user_without_groups_sees_no_devices(two_groups: ApiClient, stranger: ApiClient) -> None:
    heard = read_everything(stranger)
    assert '"value":' not in heard
    assert '"temperature"' not in heard.replace('"metric_name":"temperature"', "")


def test_admin_sees_all_devices(two_groups: ApiClient, administrator: ApiClient) -> None:
    heard = read_everything(administrator)
    assert '"value":1.0' in heard
    assert '"value":2.0' in heard


@pytest.mark.parametrize(
    "path", ["/", "/devices/", f"/devices/{THEIRS}/", "/exports/names/devices/?q=", "/overview/devices/"]
)
def test_pages_hide_devices_of_other_groups_from_viewer(two_groups: ApiClient, viewer: ApiClient, path: str) -> None:
    answer = viewer.get(path)
    assert answer.status in (200, 404), path
    assert THEIRS not in answer.raw.decode() or answer.status == 404


def test_invisible_device_looks_like_a_missing_device(two_groups: ApiClient, viewer: ApiClient) -> None:
    for template in ("devices/{}/metrics", "devices/{}/metrics/temperature/latest"):
        theirs, nobody = viewer.get(template.format(THEIRS)), viewer.get(template.format("no-such"))
        assert theirs.status == nobody.status
        assert _without_names(theirs) == _without_names(nobody)


def _without_names(answer: ApiResponse) -> str:
    """An answer, but for the device that was asked for and the number of the request."""
    text = answer.raw.decode().replace(THEIRS, "").replace("no-such", "")
    return text.replace(answer.headers["X-Request-Id"], "")


def test_background_export_has_only_devices_visible_to_its_owner(two_groups: ApiClient, viewer: ApiClient) -> None:
    from metrics.export import jobs
    from metrics.models import ExportJob

    now = datetime.now(UTC)
    order = {"device_ids": [OURS, THEIRS], "metric_names": ["temperature"]}
    order |= {"start_time": str(now - timedelta(hours=1)), "end_time": str(now + timedelta(hours=1))}
    ordered = viewer.post("export/jobs", order)
    assert ordered.status == 202, ordered.raw
    jobs.run_pending_jobs()
    assert ExportJob.objects.get().status == "done"
    held = viewer.get(f"export/jobs/{ordered.json['id']}/download").raw.decode()
    assert OURS in held
    assert THEIRS not in held


def test_user_removed_from_group_no_longer_sees_its_devices(two_groups: ApiClient, viewer: ApiClient) -> None:
    assert OURS in viewer.get(f"{API}/devices/{OURS}/metrics/temperature/latest").raw.decode()
    DeviceGroup.objects.get(name="site a").members.clear()
    assert viewer.get(f"{API}/devices/{OURS}/metrics/temperature/latest").status == 404


def test_membership_change_moves_the_revision(site: None) -> None:
    group, device = DeviceGroup.objects.create(name="g"), Device.objects.create(device_id="d")
    number = Revision.objects.get().number
    assert group_membership.add_devices(group, [device.pk]) == 1
    assert group_membership.add_devices(group, [device.pk]) == 0
    assert group_membership.remove_devices(group, [device.pk]) == 1
    device.groups.add(group)
    assert Revision.objects.get().number == number + 4


def test_users_have_the_scope_of_their_role(site: None) -> None:
    people = get_user_model().objects
    assert Caller.of_user(people.create_superuser("root")).scope == Scope.ADMIN
    assert Caller.of_user(people.create_user("clerk", is_staff=True)).scope == Scope.READ
    assert Caller.of_user(people.create_user("guest")).groups == ()


def test_only_admins_change_definitions(viewer: ApiClient, operator: ApiClient, administrator: ApiClient) -> None:
    body = {"name": "m", "data_type": "numeric"}
    assert [one.post("metrics", body).status for one in (viewer, operator, administrator)] == [403, 403, 201]


def test_requested_groups_are_limited_to_visible_ones() -> None:
    some = Caller("user:v", Scope.READ, groups=("a", "b"))
    assert some.narrowed(None) == ("a", "b")
    assert some.narrowed(["b", "c"]) == ("b",)
    assert some.narrowed(["c"]) == ()
    assert Caller("user:r", Scope.ADMIN).narrowed(["c"]) == ("c",)
    assert Caller("user:r", Scope.ADMIN).narrowed(None) is None
