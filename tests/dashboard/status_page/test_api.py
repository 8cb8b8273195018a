"""REST resources of status pages: conventions, validation, rights by device group, and audit."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from dashboard.status_page.models import StatusComponent, StatusPage
from metrics.models import AuditEntry, DeviceGroup
from tests.alerts.factories import create_device
from tests.conftest import ApiClient


@pytest.fixture
def page_id(admin: ApiClient) -> str:
    create_device("device_001", "site a")
    answer = admin.post("status-pages", {"title": "Example status", "slug": "example"})
    assert answer.status == 201, answer.json
    return str(answer.json["page_id"])


def test_page_is_created_changed_published_and_deleted(admin: ApiClient, anonymous: ApiClient, page_id: str) -> None:
    assert anonymous.get("/status/example/").status == 404
    read = admin.get(f"status-pages/{page_id}")
    changed = admin.call("PATCH", f"status-pages/{page_id}", {"published": True}, If_Match=read.headers["ETag"])
    assert changed.status == 200 and changed.json["published"] is True
    again = admin.call("PATCH", f"status-pages/{page_id}", {"published": False}, If_Match=read.headers["ETag"])
    assert again.status == 412
    assert anonymous.get("/status/example/").status == 200
    assert admin.call("DELETE", f"status-pages/{page_id}").status == 200
    assert anonymous.get("/status/example/").status == 404
    actions = AuditEntry.objects.filter(object_id="example").values_list("action", flat=True)
    assert sorted(actions) == ["changed", "created", "deleted"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"slug": "Example"}, "slug"),
        ({"slug": "api"}, "slug"),
        ({"slug": "example"}, "slug"),
        ({"host_name": "localhost"}, "host_name"),
        ({"host_name": "a..b"}, "host_name"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"title": "\t"}, "title"),
    ],
)
def test_invalid_page_is_rejected_with_the_field(
    admin: ApiClient, page_id: str, fields: dict[str, Any], field: str
) -> None:
    answer = admin.post("status-pages", {"title": "Other", "slug": "other"} | fields)
    assert answer.status in (400, 422) and [error["field"] for error in answer.json["errors"]] == [field]
    assert StatusPage.objects.count() == 1


def test_components_are_nested_and_cycles_are_rejected(admin: ApiClient, page_id: str) -> None:
    path = f"status-pages/{page_id}/components"
    parent, ids = None, []
    for level in range(5):
        answer = admin.post(path, {"name": f"Level {level}", "parent_id": parent})
        assert answer.status == 201
        parent = answer.json["component_id"]
        ids.append(parent)
    deep = admin.post(path, {"name": "Too deep", "parent_id": parent})
    assert deep.status == 422 and deep.json["errors"][0]["field"] == "parent_id"
    cycle = admin.call("PATCH", f"{path}/{ids[0]}", {"parent_id": ids[2]})
    assert cycle.status == 422 and cycle.json["errors"][0]["field"] == "parent_id"
    own = admin.call("PATCH", f"{path}/{ids[0]}", {"parent_id": ids[0]})
    assert own.status == 422
    measured = admin.call("PATCH", f"{path}/{ids[1]}", {"device_groups": ["site a"]})
    assert measured.status == 422 and measured.json["errors"][0]["field"] == "device_groups"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"device_groups": ["nowhere"]}, "device_groups"),
        ({"rule_ids": ["rule_unknown"]}, "rule_ids"),
        ({"mode": "share", "partial_percent": 80, "major_percent": 20, "device_groups": ["site a"]}, "partial_percent"),
        ({"parent_id": "cmp_unknown"}, "parent_id"),
        ({"name": ""}, "name"),
        ({"tags": {"a": 1}}, "tags.a"),
    ],
)
def test_invalid_component_is_rejected_with_the_field(
    admin: ApiClient, page_id: str, fields: dict[str, Any], field: str
) -> None:
    answer = admin.post(f"status-pages/{page_id}/components", {"name": "Portal"} | fields)
    rejected = [error["field"] for error in answer.json.get("errors", [])]
    if field == "tags.a":  # numbers become texts
        assert answer.status == 201 and answer.json["tags"] == {"a": "1"}
    else:
        assert answer.status in (400, 422) and rejected == [field], answer.json
        assert not StatusComponent.objects.exists()


def test_incident_gets_updates_until_it_is_resolved(admin: ApiClient, page_id: str) -> None:
    component = admin.post(f"status-pages/{page_id}/components", {"name": "Portal", "device_groups": ["site a"]}).json
    path = f"status-pages/{page_id}/incidents"
    body = {"title": "Outage", "impact": "major", "text": "x", "component_ids": [component["component_id"]]}
    created = admin.post(path, body, Idempotency_Key="k")
    assert created.status == 201 and created.json["component_ids"] == [component["component_id"]]
    assert admin.post(path, body, Idempotency_Key="k").json == created.json
    incident = f"{path}/{created.json['incident_id']}"
    assert admin.post(f"{incident}/updates", {"status": "resolved", "text": "Repaired."}).status == 201
    read = admin.get(incident).json
    assert read["closed_at"] is not None and [update["status"] for update in read["updates"]] == [
        "resolved", "investigating",
    ]  # fmt: skip
    assert admin.post(f"{incident}/updates", {"status": "scheduled"}).status == 400
    assert admin.post(f"{incident}/updates", {"status": "resolved"}).status == 422
    assert admin.call("PATCH", incident, {"status": "resolved"}).status == 400


def test_maintenance_must_end_after_its_start(admin: ApiClient, page_id: str) -> None:
    start = timezone.now() + timedelta(hours=1)
    path = f"status-pages/{page_id}/maintenances"
    times = {"starts_at": start.isoformat(), "ends_at": (start - timedelta(minutes=1)).isoformat()}
    assert admin.post(path, {"title": "Network", **times}).status == 422
    times["ends_at"] = (start + timedelta(hours=1)).isoformat()
    created = admin.post(path, {"title": "Network", **times})
    assert created.status == 201 and created.json["status"] == "scheduled"
    assert admin.get(f"status-pages/{page_id}/incidents/{created.json['incident_id']}").status == 404


def test_operator_sees_and_changes_pages_of_own_groups_only(
    admin: ApiClient, operator: ApiClient, viewer: ApiClient, page_id: str
) -> None:
    DeviceGroup.objects.get_or_create(name="site b")
    admin.post(f"status-pages/{page_id}/components", {"name": "Portal", "device_groups": ["site b"]})
    assert operator.get(f"status-pages/{page_id}").status == 404
    assert viewer.get("status-pages").status == 403
    own = operator.post("status-pages", {"title": "Own", "slug": "own"}).json["page_id"]
    path = f"status-pages/{own}/components"
    assert operator.post(path, {"name": "A", "device_groups": ["site b"]}).status == 422
    assert operator.post(path, {"name": "A", "tags": {"a": "b"}}).status == 422
    assert [page["slug"] for page in operator.get("status-pages").json["pages"]] == ["own"]


def test_old_dashboard_endpoint_redirects_with_deprecation_headers(admin: ApiClient, anonymous: ApiClient) -> None:
    answer = admin.get("/dashboard/agents")
    assert (answer.status, answer.headers["Location"]) == (307, "/telemetry/status")
    assert answer.headers["Deprecation"] == "@1755043200"
    assert answer.headers["Sunset"] == "Fri, 13 Aug 2027 00:00:00 GMT"
    assert '</telemetry/status>; rel="successor-version"' in answer.headers["Link"]
    assert anonymous.get("/dashboard/agents").status == 401
