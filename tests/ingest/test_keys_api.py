"""The API of API keys: create, bind, list, rotate with an overlap, revoke; and their last use."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from ingest.identity import last_used
from ingest.models import ApiKey, digest_of
from metrics.devices import group_membership
from metrics.models import Device, DeviceGroup
from metrics.storage import series_registry
from tests.conftest import API, ApiClient, point
from tests.ingest.credential_checks import ENDPOINTS, assert_authorized, assert_unauthorized, without_request_id

SHOWN = {
    "id", "name", "prefix", "scope", "device_id", "group", "valid", "created_at", "updated_at", "expires_at",
    "revoked_at", "last_used_at", "rotated_from",
}  # fmt: skip


@pytest.fixture
def group(site: None) -> DeviceGroup:
    """`site a` with press-1 and press-2 in it, and an oven that is not."""
    group, _ = DeviceGroup.objects.get_or_create(name="site a")
    made = [Device.objects.create(device_id=name) for name in ("press-1", "press-2", "oven")]
    group_membership.add_devices(group, [device.pk for device in made[:2]])
    return group


def client_with_key(caller: ApiClient, text: str) -> ApiClient:
    series_registry.refresh_registry()
    return ApiClient(caller.port, {"X-Api-Key": text})


def create_key(admin: ApiClient, **wanted: Any) -> tuple[dict[str, Any], ApiClient]:
    """A new key and whoever has it."""
    answer = admin.post("keys", {"name": "k", "scope": "admin"} | wanted)
    assert answer.status == 201, answer.raw
    return answer.json, client_with_key(admin, answer.json["key"])


@pytest.mark.parametrize("prefix", ["/api/v1", API])
def test_created_key_returns_its_text_once(admin: ApiClient, prefix: str) -> None:
    answer = admin.post(f"{prefix}/keys", {"name": "gateway 1", "scope": "admin"})
    assert (answer.status, answer.headers["Cache-Control"]) == (201, "no-store")
    made = answer.json
    assert set(made) == SHOWN | {"key"}
    assert made["key"].startswith(made["prefix"])
    assert len(made["key"].removeprefix("tk_")) == 32  # 192 random bits
    stored = ApiKey.objects.get(pk=made["id"])
    assert bytes(stored.digest) == digest_of(made["key"])
    assert made["key"] not in repr(ApiKey.objects.filter(pk=stored.pk).values().get())
    assert_authorized(client_with_key(admin, made["key"]))
    shown = admin.get(f"{prefix}/keys/{made['id']}")
    assert set(shown.json) == SHOWN
    assert made["key"] not in shown.raw.decode() + admin.get(f"{prefix}/keys").raw.decode()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": "", "scope": "read"}, "name"),
        ({"name": "a\tb", "scope": "read"}, "name"),
        ({"name": "x" * 201, "scope": "read"}, "name"),
        ({"name": "k"}, "scope"),
        ({"name": "k", "scope": "root"}, "scope"),
        ({"name": "k", "scope": "read", "device_id": "no-such"}, "device_id"),
        ({"name": "k", "scope": "read", "device_id": "a\x00"}, "device_id"),
        ({"name": "k", "scope": "read", "group": "no-such"}, "group"),
        ({"name": "k", "scope": "read", "group": "site a", "device_id": "oven"}, "group"),
        ({"name": "k", "scope": "read", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"name": "k", "scope": "read", "expires_at": "soon"}, "expires_at"),
        ({"name": "k", "scope": "read", "key": "my own"}, "key"),
    ],
)
def test_invalid_key_is_rejected_with_the_field(
    admin: ApiClient, group: DeviceGroup, body: dict[str, Any], field: str
) -> None:
    before = ApiKey.objects.count()
    answer = admin.post("keys", body)
    assert (answer.status, answer.json["errors"][0]["field"]) == (400, field)
    assert ApiKey.objects.count() == before


def test_only_admins_may_read_or_change_keys(
    admin: ApiClient, viewer: ApiClient, operator: ApiClient, stranger: ApiClient, administrator: ApiClient,
    reader: ApiClient, gateway: ApiClient, device: ApiClient, anonymous: ApiClient, group: DeviceGroup,
) -> None:  # fmt: skip
    made, _ = create_key(admin)
    of_group = create_key(admin, group="site a")[1]
    requests: list[tuple[str, str, Any]] = [
        ("GET", "keys", None),
        ("GET", f"keys/{made['id']}", None),
        ("POST", "keys", {"name": "k", "scope": "read"}),
        ("PATCH", f"keys/{made['id']}", {"name": "other"}),
        ("POST", f"keys/{made['id']}/rotate", {"overlap_seconds": 0}),
        ("POST", f"keys/{made['id']}/revoke", {}),
        ("DELETE", f"keys/{made['id']}", None),
    ]
    before = list(ApiKey.objects.values("pk", "name", "revoked_at", "expires_at"))
    for method, path, body in requests:
        for somebody in (viewer, operator, stranger, reader, gateway, device, of_group):
            assert somebody.call(method, path, body).status == 403, (method, path)
        assert anonymous.call(method, path, body).status == 401, (method, path)
    assert list(ApiKey.objects.values("pk", "name", "revoked_at", "expires_at")) == before
    for method, path, body in requests:
        assert administrator.call(method, path, body).status in (200, 201), (method, path)


def test_keys_are_paged_and_filtered(admin: ApiClient, group: DeviceGroup) -> None:
    create_key(admin, name="press gateway", scope="ingest", group="site a")
    create_key(admin, name="oven", scope="ingest", device_id="oven")
    gone, _ = create_key(admin, name="old", scope="read")
    admin.post(f"keys/{gone['id']}/revoke", {})

    def names(query: str) -> list[str]:
        found = admin.get(f"keys?{query}").json
        assert found["count"] == len(found["keys"])
        return [one["name"] for one in found["keys"]]

    assert names("scope=ingest") == ["oven", "press gateway"]
    assert names("group=site+a") == ["press gateway"]
    assert names("device_id=oven") == ["oven"]
    assert names("valid=false") == ["old"]
    assert names("search=PRESS") == ["press gateway"]
    assert names(f"search={gone['prefix']}") == ["old"]
    assert names("scope=ingest&limit=1&offset=1") == ["press gateway"]
    assert admin.get("keys?scope=root").status == 400


def test_key_can_change_its_name_and_expiry_but_not_its_rights(admin: ApiClient) -> None:
    made, _ = create_key(admin)
    path = f"keys/{made['id']}"
    ends = (timezone.now() + timedelta(days=1)).isoformat()
    changed = admin.call("PATCH", path, {"name": "new name", "expires_at": ends})
    assert (changed.status, changed.json["name"]) == (200, "new name")
    assert datetime.fromisoformat(changed.json["expires_at"]) == datetime.fromisoformat(ends)
    for field, value in {"scope": "read", "device_id": "d", "group": "g", "prefix": "x", "colour": "red"}.items():
        answer = admin.call("PATCH", path, {field: value})
        if field != "prefix":  # what is only ever shown may be sent back
            assert (answer.status, answer.json["errors"][0]["field"]) == (400, field)
    assert ApiKey.objects.get(pk=made["id"]).scope == "admin"
    stale = admin.call("PATCH", path, {"name": "x"}, If_Match='"1-1"')
    assert stale.status == 412


def test_invalid_key_is_rejected_at_all_endpoints(admin: ApiClient) -> None:
    revoked, of_revoked = create_key(admin)
    expired, of_expired = create_key(admin)
    deleted, of_deleted = create_key(admin)
    for holder in (of_revoked, of_expired, of_deleted):
        assert_authorized(holder)
    assert admin.post(f"keys/{revoked['id']}/revoke", {}).json["valid"] is False
    key = ApiKey.objects.get(pk=expired["id"])
    key.expires_at = timezone.now()
    key.save()
    assert admin.call("DELETE", f"keys/{deleted['id']}").status == 200
    series_registry.refresh_registry()
    for holder in (of_revoked, of_expired, of_deleted):
        assert_unauthorized(holder)
    for text in ("tk_wrong", of_revoked.headers["X-Api-Key"] + "x", "x" * 300, "x" * 20_000, "\u00e9"):
        assert_unauthorized(ApiClient(admin.port, {"X-Api-Key": text}), text)
    for path in (f"keys/{deleted['id']}", "keys/999", f"keys/{10**30}"):
        assert admin.get(path).status == 404


def test_second_revocation_keeps_the_first_time(admin: ApiClient) -> None:
    made, _ = create_key(admin)
    first = admin.post(f"keys/{made['id']}/revoke", {}).json["revoked_at"]
    assert admin.post(f"keys/{made['id']}/revoke", {}).json["revoked_at"] == first


def test_rotation_creates_a_key_and_limits_the_old_key_to_the_overlap(admin: ApiClient, group: DeviceGroup) -> None:
    made, old = create_key(admin, name="g", scope="ingest", group="site a")
    answer = admin.post(f"keys/{made['id']}/rotate", {"overlap_seconds": 3600})
    assert answer.status == 201
    new = client_with_key(admin, answer.json["key"])
    same = ("name", "scope", "group", "device_id")
    assert [answer.json[name] for name in same] == [made[name] for name in same]
    assert (answer.json["rotated_from"], answer.json["expires_at"]) == (made["id"], None)
    for holder in (old, new):
        assert holder.post("devices/press-1/telemetry", point()).status == 200
    left = ApiKey.objects.get(pk=made["id"]).expires_at - timezone.now()
    assert timedelta(seconds=3590) < left <= timedelta(seconds=3600)


def test_rotation_without_overlap_expires_the_old_key_at_once(admin: ApiClient) -> None:
    made, old = create_key(admin)
    assert_authorized(old)
    new = admin.post(f"keys/{made['id']}/rotate", {"overlap_seconds": 0}).json["key"]
    assert_authorized(client_with_key(admin, new))
    assert_unauthorized(old)
    again = admin.post(f"keys/{made['id']}/rotate", {})
    assert (again.status, again.headers["Content-Type"]) == (409, "application/problem+json")


def test_overlap_never_extends_an_expiry_and_the_new_key_has_the_same_lifetime(admin: ApiClient) -> None:
    ends = timezone.now() + timedelta(hours=2)
    made, _ = create_key(admin, expires_at=ends.isoformat())
    new = admin.post(f"keys/{made['id']}/rotate", {"overlap_seconds": 86_400}).json
    assert ApiKey.objects.get(pk=made["id"]).expires_at == ends
    assert abs(datetime.fromisoformat(new["expires_at"]) - timezone.now() - timedelta(hours=2)) < timedelta(minutes=1)
    for overlap in (-1, 30 * 86_400 + 1, "long"):
        answer = admin.post(f"keys/{new['id']}/rotate", {"overlap_seconds": overlap})
        assert (answer.status, answer.json["errors"][0]["field"]) == (400, "overlap_seconds")


def test_group_key_writes_only_devices_of_the_group(admin: ApiClient, group: DeviceGroup) -> None:
    _, gateway = create_key(admin, scope="ingest", group="site a")
    single = ("devices/{}/telemetry", point())
    batch = ("devices/{}/telemetry/batch", {"data_points": [point()]})
    for path, body in (single, batch):
        assert gateway.post(path.format("press-1"), body).status == 200
        refused = [gateway.post(path.format(device), body) for device in ("oven", "never-seen")]
        assert [answer.status for answer in refused] == [403, 403]
        assert without_request_id(refused[0]) == without_request_id(refused[1])  # nothing tells which of them exists
    bulk = gateway.post("bulk", {"press-1": [point()], "oven": [point()], "press-2": [point()]})
    assert bulk.status == 200
    assert (bulk.json["ingested_count"], [error["device_id"] for error in bulk.json["errors"]]) == (2, ["oven"])
    assert not Device.objects.filter(device_id="never-seen").exists()
    assert gateway.get("devices/press-1/metrics").status == 403  # it ingests


def test_group_key_reads_only_devices_of_the_group(admin: ApiClient, group: DeviceGroup) -> None:
    assert admin.post("bulk", {"press-1": [point(value=1.0)], "oven": [point(value=2.0)]}).status == 200
    _, reader = create_key(admin, scope="read", group="site a")
    told = reader.post("latest", {"metrics": ["temperature"]}).json["series"]
    assert [one["device_id"] for one in told] == ["press-1"]
    for path in ("devices/{}/metrics/temperature/latest", "devices/{}/metrics/temperature/range", "devices/{}/metrics"):
        assert reader.get(path.format("press-1")).status == 200
        refused = [reader.get(path.format(device)) for device in ("oven", "never-seen")]
        assert [answer.status for answer in refused] == [403, 403]
        assert without_request_id(refused[0]) == without_request_id(refused[1])
    assert reader.post("devices/press-1/telemetry", point()).status == 403


def test_changes_of_a_group_apply_to_its_keys(admin: ApiClient, group: DeviceGroup) -> None:
    _, gateway = create_key(admin, scope="ingest", group="site a")
    _, reader = create_key(admin, scope="read", group="site a")

    def seen() -> list[str]:
        series_registry.refresh_registry()
        return [one["device_id"] for one in reader.post("latest", {"metrics": ["temperature"]}).json["series"]]

    def allowed() -> list[str]:
        series_registry.refresh_registry()
        sent = {name: gateway.post(f"devices/{name}/telemetry", point()).status for name in ("press-1", "oven")}
        return [name for name, status in sent.items() if status == 200]

    assert (allowed(), seen()) == (["press-1"], ["press-1"])
    oven, press = (Device.objects.get(device_id=name) for name in ("oven", "press-1"))
    group_membership.add_devices(group, [oven.pk])
    assert allowed() == ["press-1", "oven"]
    press.groups.clear()
    assert (allowed(), seen()) == (["oven"], ["oven"])
    group.name = "renamed"
    group.save()
    assert (seen(), allowed()) == (["oven"], ["oven"])
    group_membership.add_devices(
        DeviceGroup.objects.create(name="site a"), [press.pk]
    )  # another one, with the old name
    assert allowed() == ["oven"]
    group.delete()
    assert allowed() == []
    assert not ApiKey.objects.filter(group__isnull=False).exists()
    assert_unauthorized(gateway)


@pytest.mark.parametrize("how", ["device", "devices", "groups", "keys"])
def test_keys_deleted_by_cascade_or_in_bulk_are_rejected(admin: ApiClient, group: DeviceGroup, how: str) -> None:
    bound = {"group": "site a"} if how == "groups" else {"device_id": "press-1"}
    _, holder = create_key(admin, scope="ingest", **bound)
    assert holder.post("devices/press-1/telemetry", point()).status == 200
    {
        "device": Device.objects.get(device_id="press-1").delete,
        "devices": Device.objects.filter(device_id="press-1").delete,
        "groups": DeviceGroup.objects.all().delete,
        "keys": ApiKey.objects.filter(scope="ingest").delete,
    }[how]()
    series_registry.refresh_registry()
    assert holder.post("devices/press-1/telemetry", point()).status == 401


def test_database_rejects_a_key_of_a_device_and_a_group(site: None, group: DeviceGroup) -> None:
    from django.db import IntegrityError, transaction

    with pytest.raises(IntegrityError, match="key_bound_once"), transaction.atomic():
        ApiKey.issue("k", "ingest", Device.objects.get(device_id="oven"), group=group)


def test_last_use_of_a_key_is_written_once_a_minute(admin: ApiClient) -> None:
    made, holder = create_key(admin)
    unused, _ = create_key(admin)

    def written_last_used(endpoint: str | None = None) -> Any:
        if endpoint:
            assert ENDPOINTS[endpoint](holder).status == 200
        last_used.write_last_used()
        return ApiKey.objects.get(pk=made["id"]).last_used_at

    assert written_last_used() is None
    for endpoint in ENDPOINTS:
        ApiKey.objects.update(last_used_at=None)
        assert abs(written_last_used(endpoint) - timezone.now()) < timedelta(seconds=30)
    first = written_last_used()
    assert written_last_used("fast lane") == first  # within the same minute
    ApiKey.objects.filter(pk=made["id"]).update(last_used_at=first - timedelta(minutes=2))
    assert written_last_used("fast lane") > first
    assert admin.get(f"keys/{unused['id']}").json["last_used_at"] is None
    assert admin.get(f"keys/{made['id']}").json["last_used_at"] is not None


def test_use_of_a_token_counts_as_use_of_its_key(admin: ApiClient) -> None:
    made, _ = create_key(admin)
    sent = {"grant_type": "api_key", "api_key": made["key"]}
    token = ApiClient(admin.port, {}).post("/api/v1/auth/token", sent).json["access_token"]
    last_used.write_last_used()
    assert_authorized(ApiClient(admin.port, {"Authorization": f"Bearer {token}"}))
    last_used.write_last_used()
    assert ApiKey.objects.get(pk=made["id"]).last_used_at is not None


def test_list_takes_the_same_number_of_statements_for_more_keys(
    admin: ApiClient, group: DeviceGroup, django_assert_num_queries: Any
) -> None:
    from django.test import Client

    for number in range(30):
        ApiKey.issue(f"key {number}", "ingest", group=group)
    series_registry.refresh_registry()
    client = Client(headers={"X-Api-Key": admin.headers["X-Api-Key"]})
    client.get(f"{API}/keys?limit=1")
    for limit in (1, 30):
        with django_assert_num_queries(2):  # a page, and how many there are
            assert client.get(f"{API}/keys?limit={limit}").json()["count"] == limit
