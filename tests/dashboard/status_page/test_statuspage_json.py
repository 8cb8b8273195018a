"""The JSON has the shape of Statuspage's API: field by field, as the published types of its clients say.

The types are those of the npm package `statuspage.io` 3.3.8 (`dist/interfaces/Result.d.ts`).
"""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from dashboard.status_page.statuspage_json import DOCUMENTS
from tests.dashboard.status_page.factories import create_component, create_incident, create_maintenance, create_page

TEXT, OPTIONAL_TEXT, FLAG, NUMBER = (str,), (str, type(None)), (bool,), (int,)
COMPONENT = {
    "created_at": TEXT, "description": OPTIONAL_TEXT, "group": FLAG, "group_id": OPTIONAL_TEXT, "id": TEXT,
    "name": TEXT, "only_show_if_degraded": FLAG, "page_id": TEXT, "position": NUMBER, "showcase": FLAG,
    "start_date": OPTIONAL_TEXT, "status": TEXT, "updated_at": TEXT,
}  # fmt: skip
INCIDENT = {
    "created_at": TEXT, "id": TEXT, "impact": TEXT, "incident_updates": (list,), "monitoring_at": OPTIONAL_TEXT,
    "name": TEXT, "page_id": TEXT, "resolved_at": OPTIONAL_TEXT, "shortlink": TEXT, "status": TEXT, "updated_at": TEXT,
}  # fmt: skip
UPDATE = {
    "body": TEXT, "created_at": TEXT, "display_at": TEXT, "id": TEXT, "incident_id": TEXT, "status": TEXT,
    "updated_at": TEXT,
}  # fmt: skip
PAGE = dict.fromkeys(("id", "name", "time_zone", "updated_at", "url"), TEXT)
STATES = {"operational", "degraded_performance", "partial_outage", "major_outage", "under_maintenance"}
INCIDENT_STATUSES = {"identified", "investigating", "monitoring", "postmortem", "resolved"}
MAINTENANCE_STATUSES = {"completed", "in_progress", "scheduled", "verifying"}
IMPACTS = {"critical", "major", "minor", "none"}


def check(value: dict[str, Any], shape: dict[str, tuple[type, ...]]) -> None:
    for name, kinds in shape.items():
        assert type(value[name]) in kinds, (name, value[name])
        if name.endswith("_at") and value[name] is not None:
            assert datetime.fromisoformat(value[name]).tzinfo is not None


def check_incident(incident: dict[str, Any], statuses: set[str], impacts: set[str]) -> None:
    check(incident, INCIDENT)
    assert incident["status"] in statuses and incident["impact"] in impacts
    for update in incident["incident_updates"]:
        check(update, UPDATE)
        assert update["status"] in statuses and update["incident_id"] == incident["id"]
    for component in incident["components"]:
        check(component, COMPONENT)


@pytest.fixture
def documents(site: None) -> dict[str, Any]:
    """All documents of a page with nested groups, incidents and maintenance in every phase."""
    page, now, hour = create_page(time_zone="America/St_Johns"), timezone.now(), timedelta(hours=1)
    group = create_component(page, "Services", description="x")
    portal = create_component(page, "Portal", group, device_groups=["a"])
    create_component(page, "Alarms", device_groups=["b"])
    for number, status in enumerate(sorted(INCIDENT_STATUSES)):
        closed_at = now if status in ("resolved", "postmortem") else None
        create_incident(page, portal, status=status, closed_at=closed_at, starts_at=now - number * hour)
    create_maintenance(page, portal, starts_at=now + hour, ends_at=now + 2 * hour)
    create_maintenance(page, status="in_progress", starts_at=now - hour, ends_at=now + 2 * hour)
    create_maintenance(page, group, status="completed", starts_at=now - 3 * hour, ends_at=now - hour, closed_at=now)
    return {name: Client().get(f"/status/api/v2/{name}.json").json() for name in DOCUMENTS}


def test_every_document_has_the_page_and_the_fields_of_the_types(documents: dict[str, Any]) -> None:
    for document in documents.values():
        check(document["page"], PAGE)
        for component in document.get("components", ()):
            check(component, COMPONENT)
            assert component["status"] in STATES
        for incident in document.get("incidents", ()):
            check_incident(incident, INCIDENT_STATUSES, IMPACTS)
        for maintenance in document.get("scheduled_maintenances", ()):
            check_incident(maintenance, MAINTENANCE_STATUSES, {"maintenance"})
            check(maintenance, {"scheduled_for": TEXT, "scheduled_until": TEXT})
    assert set(documents["summary"]) == {"page", "status", "components", "incidents", "scheduled_maintenances"}
    assert documents["status"]["status"]["indicator"] in {"none", "minor", "major", "critical", "maintenance"}


def test_documents_list_the_incidents_and_maintenance_of_their_phase(documents: dict[str, Any]) -> None:
    def statuses(name: str, field: str) -> list[str]:
        return sorted(item["status"] for item in documents[name][field])

    unresolved = ["identified", "investigating", "monitoring"]
    assert statuses("incidents", "incidents") == sorted(INCIDENT_STATUSES)
    assert statuses("incidents/unresolved", "incidents") == unresolved
    assert statuses("summary", "incidents") == unresolved
    assert statuses("scheduled-maintenances", "scheduled_maintenances") == ["completed", "in_progress", "scheduled"]
    assert statuses("scheduled-maintenances/upcoming", "scheduled_maintenances") == ["scheduled"]
    assert statuses("scheduled-maintenances/active", "scheduled_maintenances") == ["in_progress"]
    assert statuses("summary", "scheduled_maintenances") == ["in_progress", "scheduled"]


def test_groups_name_their_components_and_times_are_in_the_zone_of_the_page(documents: dict[str, Any]) -> None:
    components = {component["name"]: component for component in documents["components"]["components"]}
    assert components["Services"]["group"] and components["Services"]["components"] == [components["Portal"]["id"]]
    assert components["Portal"]["group_id"] == components["Services"]["id"]
    assert documents["status"]["page"]["updated_at"].endswith(("-03:30", "-02:30"))
