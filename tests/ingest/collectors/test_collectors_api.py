"""REST API of collectors: CRUD, secrets, run now, journal, deployments by webhook."""

from typing import Any

import pytest

from ingest.collection.models import Annotation, Collector
from metrics.models import AuditEntry
from tests.conftest import ApiClient
from tests.ingest.collectors.factories import create_collector, latest, make_due, run_once

HTTP = {
    "name": "front page",
    "kind": "http",
    "device_id": "shop",
    "configuration": {"url": "http://127.0.0.1:9/"},
    "secrets": {"bearer_token": "wonderful-secret"},
}


@pytest.fixture
def created(local_targets: None, admin: ApiClient) -> dict[str, Any]:
    response = admin.post("collectors", HTTP)
    assert response.status == 201, response.json
    return response.json


def test_created_collector_has_defaults_and_no_secret(created: dict[str, Any], admin: ApiClient) -> None:
    assert created["configuration"] == {
        "url": "http://127.0.0.1:9/", "method": "GET", "expected_status": None, "body_contains": "", "username": "",
        "verify_tls": True,
    }  # fmt: skip
    assert (created["interval"], created["deadline"], created["jitter"]) == (60, 10, None)
    assert created["secret_names"] == ["bearer_token"] and created["status"] == "waiting"
    assert "wonderful" not in str(created) + str(admin.get("collectors").json)
    assert "wonderful" not in Collector.objects.get().encrypted_secrets
    assert all("wonderful" not in entry.after for entry in AuditEntry.objects.all())


def test_change_keeps_omitted_secrets_and_removes_empty_ones(created: dict[str, Any], admin: ApiClient) -> None:
    path = f"collectors/{created['collector_id']}"
    assert admin.call("PATCH", path, {"interval": 5}).json["secret_names"] == ["bearer_token"]
    assert admin.call("PATCH", path, {"secrets": {"password": "x"}}).json["secret_names"] == [
        "bearer_token",
        "password",
    ]
    assert admin.call("PATCH", path, {"secrets": {"bearer_token": ""}}).json["secret_names"] == ["password"]
    assert Collector.objects.get().secrets == {"password": "x"}


@pytest.mark.parametrize(
    ("change", "field", "detail"),
    [
        ({"kind": "ftp"}, "kind", "http, ping, tcp"),
        ({"name": ""}, "name", ""),
        ({"interval": 0}, "interval", "1"),
        ({"jitter": 61}, "jitter", "0 seconds to the interval"),
        ({"deadline": 301}, "deadline", "300"),
        ({"configuration": {}}, "configuration.url", "required"),
        ({"configuration": {"url": "ftp://x/"}}, "configuration.url", "must be a URL such as"),
        ({"configuration": {"url": "http://10.0.0.1/"}}, "configuration.url", "TELEMETRY_ALLOW_PRIVATE_COLLECTORS"),
        ({"configuration": {"url": "http://169.254.169.254/"}}, "configuration.url", "never allowed"),
        ({"configuration": {"url": "http://127.0.0.1/", "colour": 1}}, "configuration.colour", "is not a known field"),
        ({"secrets": {"community": "x"}}, "secrets.community", "accepted are bearer_token, password"),
        ({"secrets": {"password": "a\r\nb"}}, "secrets.password", "printable"),
        ({"kind": "tcp", "configuration": {"host": "a b", "port": 0}, "secrets": {}},
         "configuration.host", "host name"),
        ({"kind": "snmp", "configuration": {"host": "127.0.0.1", "oids": {"x": "1.x"}}, "secrets": {}},
         "configuration.oids.x", "an OID such as"),
        ({"kind": "snmp", "configuration": {"host": "127.0.0.1", "version": "3", "oids": {"x": "1.3.6"}},
          "secrets": {}}, "configuration.username", "required"),
        ({"kind": "agent_health", "configuration": {"url": "http://127.0.0.1/", "paths": {"x": "$["}}, "secrets": {}},
         "configuration.paths.x", "not a JSONPath"),
        ({"kind": "docker", "configuration": {"engine": "/var/run"}, "secrets": {}}, "configuration.engine", "unix://"),
        ({"kind": "deployments", "configuration": {}, "secrets": {}}, "configuration.url", "webhook_token"),
    ],
)  # fmt: skip
def test_invalid_field_is_rejected_by_name(
    local_targets: None, admin: ApiClient, change: dict[str, Any], field: str, detail: str
) -> None:
    response = admin.post("collectors", HTTP | change)
    assert response.status in (400, 422), response.json
    details = {error["field"]: error["detail"] for error in response.json["errors"]}
    assert detail in details[field], details
    assert not Collector.objects.exists()


def test_only_admins_change_and_people_see_collectors_of_their_devices(
    created: dict[str, Any], reader: ApiClient, viewer: ApiClient, operator: ApiClient, admin: ApiClient
) -> None:
    path = f"collectors/{created['collector_id']}"
    assert reader.get(path).status == 200
    assert viewer.get("collectors").json["collectors"] == [] and viewer.get(path).status == 404
    assert viewer.get(f"{path}/collections").status == 404
    assert reader.call("PATCH", path, {"interval": 5}).status == 403 and reader.post("collectors", HTTP).status == 403
    assert reader.post(f"{path}/run", None).status == 403


def test_requested_collection_is_found_by_its_snapshot_id(local_targets: None, admin: ApiClient) -> None:
    collector = create_collector("tcp", {"host": "127.0.0.1", "port": 9}, enabled=False)
    asked = admin.post(f"collectors/{collector.collector_id}/run", None)
    assert asked.status == 202
    run_once()
    found = admin.get(f"/telemetry/collect/{asked.json['snapshot_id']}").json
    assert found["collector_id"] == collector.collector_id and found["device_id"] == "boiler"
    assert found["points"] == 1 and "does not accept connections" in found["error"]
    (row,) = admin.get(f"collectors/{collector.collector_id}/collections").json["collections"]
    assert row == found


def test_filters_select_kind_and_failing(local_targets: None, admin: ApiClient) -> None:
    make_due(create_collector("tcp", {"host": "127.0.0.1", "port": 9}))
    create_collector("ping", {"host": "127.0.0.1"}, name="other", enabled=False)
    run_once()
    for query, names in (("failing=true", ["tcp check"]), ("kind=ping", ["other"]), ("enabled=false", ["other"])):
        assert [row["name"] for row in admin.get(f"collectors?{query}").json["collectors"]] == names


def test_deployment_webhook_needs_its_own_token_and_stores_annotations(
    local_targets: None, admin: ApiClient, anonymous: ApiClient
) -> None:
    collector = create_collector("deployments", secrets={"webhook_token": "a-deployment-token"}, device_id="shop")
    path = f"/api/v1/telemetry/collectors/{collector.collector_id}/deployments"
    body = {"deployment_id": "d-1", "version": "1.4", "state": "completed", "updated_at": "2026-01-01T00:00:00Z"}
    assert anonymous.post(path, body).status == 401
    assert admin.post(path, body).status == 401
    wrong = anonymous.post(path, body, Authorization="Bearer wrong")
    assert wrong.status == 401
    body |= {"updated_at": None}
    sent = anonymous.post(path, body, Authorization="Bearer a-deployment-token")
    assert (sent.status, sent.json) == (200, {"success": True, "stored": 1})
    again = anonymous.post(path, body, Authorization="Bearer a-deployment-token")
    assert again.json["stored"] == 0
    assert latest("shop")["deployment.version"] == "1.4"
    assert Annotation.objects.get().state == "completed"
    (row,) = admin.get("devices/shop/annotations").json["annotations"]
    assert row["version"] == "1.4"
    bad = anonymous.post(path, {"version": "1"}, Authorization="Bearer a-deployment-token")
    assert bad.status == 422 and "has no state" in bad.json["detail"]
