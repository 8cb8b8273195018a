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

KEY_FIELDS = {
    "id", "name", "prefix", "scope", "device_id", "group", "valid", "created_at", "updated_at", "expires_at",
    "revoked_at", "last_used_at", "rotated_from",
}  # fmt: skip


@pytest.fixture
def group(site: None) -> DeviceGroup:
    """The group `site a` with press-1 and press-2; the device oven is in no group."""
    group, _ = DeviceGroup.objects.get_or_create(name="site a")
    devices = [Device.objects.create(device_id=name) for name in ("press-1", "press-2", "oven")]
    group_membership.add_devices(group, [device.pk for device in devices[:2]])
    return group


def client_with_key(caller: ApiClient, key: str) -> ApiClient:
    series_registry.refresh_registry()
    return ApiClient(caller.port, {"X-Api-Key": key})


def create_key(admin: ApiClient, **fields: Any) -> tuple[dict[str, Any], ApiClient]:
    """Create a key; return its document and a client that uses it."""
    response = admin.post("keys", {"name": "k", "scope": "admin"} | fields)
    assert response.status == 201, response.raw
    return response.json, client_with_key(admin, response.json["key"])


@pytest.mark.parametrize("prefix", ["/api/v1", API])
def test_created_key_returns_its_text_once(admin: ApiClient, prefix: str) -> None:
    response = admin.post(f"{prefix}/keys", {"name": "gateway 1", "scope": "admin"})
    assert (response.status, response.headers["Cache-Control"]) == (201, "no-store")
    created = response.json
    assert set(created) == KEY_FIELDS | {"key"}
    assert created["key"].startswith(created["prefix"])
    assert len(created["key"].removeprefix("tk_")) == 32  # 192 random bits
    stored = ApiKey.objects.get(pk=created["id"])
    assert bytes(stored.digest) == digest_of(created["key"])
    assert created["key"] not in repr(ApiKey.objects.filter(pk=stored.pk).values().get())
    assert_authorized(client_with_key(admin, created["key"]))
    response_without_key = admin.get(f"{prefix}/keys/{created['id']}")
    assert set(response_without_key.json) == KEY_FIELDS
    assert created["key"] not in response_without_key.raw.decode() + admin.get(f"{prefix}/keys").raw.decode()


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
    response = admin.post("keys", body)
    status = 422 if "key" in body or {"group", "device_id"} <= body.keys() else 400
    assert (response.status, response.json["errors"][0]["field"]) == (status, field)
    assert ApiKey.objects.count() == before


@pytest.mark.slow
def test_only_admins_may_read_or_change_keys(
    admin: ApiClient, viewer: ApiClient, operator: ApiClient, stranger: ApiClient, administrator: ApiClient,
    reader: ApiClient, gateway: ApiClient, device: ApiClient, anonymous: ApiClient, group: DeviceGroup,
) -> None:  # fmt: skip
    key, _ = create_key(admin)
    group_client = create_key(admin, group="site a")[1]
    requests: list[tuple[str, str, Any]] = [
        ("GET", "keys", None),
        ("GET", f"keys/{key['id']}", None),
        ("POST", "keys", {"name": "k", "scope": "read"}),
        ("PATCH", f"keys/{key['id']}", {"name": "other"}),
        ("POST", f"keys/{key['id']}/rotate", {"overlap_seconds": 0}),
        ("POST", f"keys/{key['id']}/revoke", {}),
        ("DELETE", f"keys/{key['id']}", None),
    ]
    stored_keys = list(ApiKey.objects.values("pk", "name", "revoked_at", "expires_at"))
    for method, path, body in requests:
        for client in (viewer, operator, stranger, reader, gateway, device, group_client):
            assert client.call(method, path, body).status == 403, (method, path)
        assert anonymous.call(method, path, body).status == 401, (method, path)
    assert list(ApiKey.objects.values("pk", "name", "revoked_at", "expires_at")) == stored_keys
    for method, path, body in requests:
        assert administrator.call(method, path, body).status in (200, 201), (method, path)


def test_keys_are_paged_and_filtered(admin: ApiClient, group: DeviceGroup) -> None:
    create_key(admin, name="press gateway", scope="ingest", group="site a")
    create_key(admin, name="oven", scope="ingest", device_id="oven")
    revoked, _ = create_key(admin, name="old", scope="read")
    admin.post(f"keys/{revoked['id']}/revoke", {})

    def names(query: str) -> list[str]:
        page = admin.get(f"keys?{query}").json
        assert page["count"] == len(page["keys"])
        return [key["name"] for key in page["keys"]]

    assert names("scope=ingest") == ["oven", "press gateway"]
    assert names("group=site+a") == ["press gateway"]
    assert names("device_id=oven") == ["oven"]
    assert names("valid=false") == ["old"]
    assert names("search=PRESS") == ["press gateway"]
    assert names(f"search={revoked['prefix']}") == ["old"]
    assert names("scope=ingest&limit=1&offset=1") == ["press gateway"]
    assert admin.get("keys?scope=root").status == 400


def test_key_can_change_its_name_and_expiry_but_not_its_rights(admin: ApiClient) -> None:
    key, _ = create_key(admin)
    path = f"keys/{key['id']}"
    expiry = (timezone.now() + timedelta(days=1)).isoformat()
    changed = admin.call("PATCH", path, {"name": "new name", "expires_at": expiry})
    assert (changed.status, changed.json["name"]) == (200, "new name")
    assert datetime.fromisoformat(changed.json["expires_at"]) == datetime.fromisoformat(expiry)
    for field, value in {"scope": "read", "device_id": "d", "group": "g", "prefix": "x", "colour": "red"}.items():
        response = admin.call("PATCH", path, {field: value})
        if field != "prefix":  # a read-only field may be sent back
            status = 422 if field == "colour" else 400
            assert (response.status, response.json["errors"][0]["field"]) == (status, field)
    assert ApiKey.objects.get(pk=key["id"]).scope == "admin"
    stale = admin.call("PATCH", path, {"name": "x"}, If_Match='"1-1"')
    assert stale.status == 412


@pytest.mark.slow
def test_invalid_key_is_rejected_at_all_endpoints(admin: ApiClient) -> None:
    revoked, revoked_client = create_key(admin)
    expired, expired_client = create_key(admin)
    deleted, deleted_client = create_key(admin)
    for client in (revoked_client, expired_client, deleted_client):
        assert_authorized(client)
    assert admin.post(f"keys/{revoked['id']}/revoke", {}).json["valid"] is False
    key = ApiKey.objects.get(pk=expired["id"])
    key.expires_at = timezone.now()
    key.save()
    assert admin.call("DELETE", f"keys/{deleted['id']}").status == 200
    series_registry.refresh_registry()
    for client in (revoked_client, expired_client, deleted_client):
        assert_unauthorized(client)
    for text in ("tk_wrong", revoked_client.headers["X-Api-Key"] + "x", "x" * 300, "x" * 20_000, "\u00e9"):
        assert_unauthorized(ApiClient(admin.port, {"X-Api-Key": text}), text)
    for path in (f"keys/{deleted['id']}", "keys/999", f"keys/{10**30}"):
        assert admin.get(path).status == 404


def test_second_revocation_keeps_the_first_time(admin: ApiClient) -> None:
    key, _ = create_key(admin)
    revoked_at = admin.post(f"keys/{key['id']}/revoke", {}).json["revoked_at"]
    assert admin.post(f"keys/{key['id']}/revoke", {}).json["revoked_at"] == revoked_at


def test_rotation_creates_a_key_and_limits_the_old_key_to_the_overlap(admin: ApiClient, group: DeviceGroup) -> None:
    key, old_client = create_key(admin, name="g", scope="ingest", group="site a")
    response = admin.post(f"keys/{key['id']}/rotate", {"overlap_seconds": 3600})
    assert response.status == 201
    new_client = client_with_key(admin, response.json["key"])
    copied_fields = ("name", "scope", "group", "device_id")
    assert [response.json[name] for name in copied_fields] == [key[name] for name in copied_fields]
    assert (response.json["rotated_from"], response.json["expires_at"]) == (key["id"], None)
    for client in (old_client, new_client):
        assert client.post("devices/press-1/telemetry", point()).status == 200
    remaining = ApiKey.objects.get(pk=key["id"]).expires_at - timezone.now()
    assert timedelta(seconds=3590) < remaining <= timedelta(seconds=3600)


def test_rotation_without_overlap_expires_the_old_key_at_once(admin: ApiClient) -> None:
    key, old_client = create_key(admin)
    assert_authorized(old_client)
    new_key = admin.post(f"keys/{key['id']}/rotate", {"overlap_seconds": 0}).json["key"]
    assert_authorized(client_with_key(admin, new_key))
    assert_unauthorized(old_client)
    second = admin.post(f"keys/{key['id']}/rotate", {})
    assert (second.status, second.headers["Content-Type"]) == (409, "application/problem+json")


def test_overlap_never_extends_an_expiry_and_the_new_key_has_the_same_lifetime(admin: ApiClient) -> None:
    expiry = timezone.now() + timedelta(hours=2)
    key, _ = create_key(admin, expires_at=expiry.isoformat())
    new_key = admin.post(f"keys/{key['id']}/rotate", {"overlap_seconds": 86_400}).json
    assert ApiKey.objects.get(pk=key["id"]).expires_at == expiry
    assert abs(datetime.fromisoformat(new_key["expires_at"]) - timezone.now() - timedelta(hours=2)) < timedelta(
        minutes=1
    )
    for overlap in (-1, 30 * 86_400 + 1, "long"):
        response = admin.post(f"keys/{new_key['id']}/rotate", {"overlap_seconds": overlap})
        assert (response.status, response.json["errors"][0]["field"]) == (400, "overlap_seconds")


def test_group_key_writes_only_devices_of_the_group(admin: ApiClient, group: DeviceGroup) -> None:
    _, gateway = create_key(admin, scope="ingest", group="site a")
    single = ("devices/{}/telemetry", point())
    batch = ("devices/{}/telemetry/batch", {"data_points": [point()]})
    for path, body in (single, batch):
        assert gateway.post(path.format("press-1"), body).status == 200
        responses = [gateway.post(path.format(device), body) for device in ("oven", "never-seen")]
        assert [response.status for response in responses] == [403, 403]
        assert without_request_id(responses[0]) == without_request_id(
            responses[1]
        )  # the responses do not reveal which device exists
    bulk = gateway.post("bulk", {"press-1": [point()], "oven": [point()], "press-2": [point()]})
    assert bulk.status == 200
    assert (bulk.json["ingested_count"], [error["device_id"] for error in bulk.json["errors"]]) == (2, ["oven"])
    assert not Device.objects.filter(device_id="never-seen").exists()
    assert gateway.get("devices/press-1/metrics").status == 403  # an ingest key cannot read


def test_group_key_reads_only_devices_of_the_group(admin: ApiClient, group: DeviceGroup) -> None:
    assert admin.post("bulk", {"press-1": [point(value=1.0)], "oven": [point(value=2.0)]}).status == 200
    _, reader = create_key(admin, scope="read", group="site a")
    series = reader.post("latest", {"metrics": ["temperature"]}).json["series"]
    assert [row["device_id"] for row in series] == ["press-1"]
    for path in ("devices/{}/metrics/temperature/latest", "devices/{}/metrics/temperature/range", "devices/{}/metrics"):
        assert reader.get(path.format("press-1")).status == 200
        responses = [reader.get(path.format(device)) for device in ("oven", "never-seen")]
        assert [response.status for response in responses] == [403, 403]
        assert without_request_id(responses[0]) == without_request_id(responses[1])
    assert reader.post("devices/press-1/telemetry", point()).status == 403


@pytest.mark.slow
def test_changes_of_a_group_apply_to_its_keys(admin: ApiClient, group: DeviceGroup) -> None:
    _, gateway = create_key(admin, scope="ingest", group="site a")
    _, reader = create_key(admin, scope="read", group="site a")

    def visible_devices() -> list[str]:
        series_registry.refresh_registry()
        return [row["device_id"] for row in reader.post("latest", {"metrics": ["temperature"]}).json["series"]]

    def writable_devices() -> list[str]:
        series_registry.refresh_registry()
        statuses = {name: gateway.post(f"devices/{name}/telemetry", point()).status for name in ("press-1", "oven")}
        return [name for name, status in statuses.items() if status == 200]

    assert (writable_devices(), visible_devices()) == (["press-1"], ["press-1"])
    oven, press = (Device.objects.get(device_id=name) for name in ("oven", "press-1"))
    group_membership.add_devices(group, [oven.pk])
    assert writable_devices() == ["press-1", "oven"]
    press.groups.clear()
    assert (writable_devices(), visible_devices()) == (["oven"], ["oven"])
    group.name = "renamed"
    group.save()
    assert (visible_devices(), writable_devices()) == (["oven"], ["oven"])
    group_membership.add_devices(
        DeviceGroup.objects.create(name="site a"), [press.pk]
    )  # another group with the old name
    assert writable_devices() == ["oven"]
    group.delete()
    assert writable_devices() == []
    assert not ApiKey.objects.filter(group__isnull=False).exists()
    assert_unauthorized(gateway)


@pytest.mark.parametrize("deletion", ["device", "devices", "groups", "keys"])
def test_keys_deleted_by_cascade_or_in_bulk_are_rejected(admin: ApiClient, group: DeviceGroup, deletion: str) -> None:
    binding = {"group": "site a"} if deletion == "groups" else {"device_id": "press-1"}
    _, client = create_key(admin, scope="ingest", **binding)
    assert client.post("devices/press-1/telemetry", point()).status == 200
    {
        "device": Device.objects.get(device_id="press-1").delete,
        "devices": Device.objects.filter(device_id="press-1").delete,
        "groups": DeviceGroup.objects.all().delete,
        "keys": ApiKey.objects.filter(scope="ingest").delete,
    }[deletion]()
    series_registry.refresh_registry()
    assert client.post("devices/press-1/telemetry", point()).status == 401


def test_database_rejects_a_key_of_a_device_and_a_group(site: None, group: DeviceGroup) -> None:
    from django.db import IntegrityError, transaction

    with pytest.raises(IntegrityError, match="key_bound_once"), transaction.atomic():
        ApiKey.issue("k", "ingest", Device.objects.get(device_id="oven"), group=group)


def test_last_use_of_a_key_is_written_once_a_minute(admin: ApiClient) -> None:
    key, client = create_key(admin)
    unused, _ = create_key(admin)

    def written_last_used(endpoint: str | None = None) -> Any:
        if endpoint:
            assert ENDPOINTS[endpoint](client).status == 200
        last_used.write_last_used()
        return ApiKey.objects.get(pk=key["id"]).last_used_at

    assert written_last_used() is None
    for endpoint in ENDPOINTS:
        ApiKey.objects.update(last_used_at=None)
        assert abs(written_last_used(endpoint) - timezone.now()) < timedelta(seconds=30)
    last_used_at = written_last_used()
    assert written_last_used("fast lane") == last_used_at  # within the same minute
    ApiKey.objects.filter(pk=key["id"]).update(last_used_at=last_used_at - timedelta(minutes=2))
    assert written_last_used("fast lane") > last_used_at
    assert admin.get(f"keys/{unused['id']}").json["last_used_at"] is None
    assert admin.get(f"keys/{key['id']}").json["last_used_at"] is not None


def test_use_of_a_token_counts_as_use_of_its_key(admin: ApiClient) -> None:
    key, _ = create_key(admin)
    body = {"grant_type": "api_key", "api_key": key["key"]}
    token = ApiClient(admin.port, {}).post("/api/v1/auth/token", body).json["access_token"]
    last_used.write_last_used()
    assert_authorized(ApiClient(admin.port, {"Authorization": f"Bearer {token}"}))
    last_used.write_last_used()
    assert ApiKey.objects.get(pk=key["id"]).last_used_at is not None


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
        with django_assert_num_queries(2):  # the page and the total count
            assert client.get(f"{API}/keys?limit={limit}").json()["count"] == limit
