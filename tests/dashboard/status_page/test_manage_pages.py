"""Pages for operators: from nothing to a published page, incidents, maintenance and the preview."""

import pytest
from django.test import Client
from django.urls import reverse

from dashboard.status_page.models import StatusComponent, StatusIncident, StatusPage
from metrics.models import DeviceGroup
from tests.dashboard.status_page.factories import create_component, create_page


@pytest.fixture
def groups(site: None) -> list[str]:
    names = ["site a", "site b"]
    for name in names:
        DeviceGroup.objects.create(name=name)
    return names


def test_page_of_device_groups_is_created_previewed_and_published(client: Client, groups: list[str]) -> None:
    answer = client.post("/status-pages/new/", {"title": "Example status", "groups": groups}, follow=True)
    assert "Example status created" in answer.text
    page = StatusPage.objects.get()
    assert (page.slug, page.published) == ("example-status", False)
    assert [component.name for component in page.components.all()] == groups
    preview = client.get(reverse("dashboard:status-page-preview", args=[page.page_id]))
    assert "Preview: this page is not published" in preview.text and "site b" in preview.text
    assert Client().get("/status/example-status/").status_code == 404
    client.post(reverse("dashboard:publish-status-page", args=[page.page_id]), {"published": "on"})
    assert Client().get("/status/example-status/").status_code == 200


def test_empty_title_is_shown_at_its_field(client: Client, groups: list[str]) -> None:
    answer = client.post("/status-pages/new/", {"title": " ", "groups": groups})
    assert answer.status_code == 422 and "must be 1 to 200 characters" in answer.text
    assert not StatusPage.objects.exists()


def test_component_is_created_changed_moved_and_deleted(client: Client, groups: list[str]) -> None:
    page = create_page(published=False)
    first = create_component(page, "First", position=0)
    base = reverse("dashboard:status-page", args=[page.page_id])
    fields = {"name": "Portal", "device_groups": ["site a"], "mode": "share", "parent": "", "tags": "kind=web"}
    assert client.post(f"{base}components/", fields).status_code == 302
    component = StatusComponent.objects.get(name="Portal")
    assert (component.tags, component.mode, component.position) == ({"kind": "web"}, "share", 1)
    client.post(f"{base}components/{component.component_id}/move/", {"step": "up"})
    assert [one.name for one in page.components.all()] == ["Portal", "First"]
    changed = client.post(
        f"{base}components/{component.component_id}/",
        fields | {"parent": first.component_id, "tags": "", "partial_percent": "10", "major_percent": "20"},
    )
    assert changed.status_code == 302
    component.refresh_from_db()
    assert (component.parent, component.tags, component.partial_percent) == (first, {}, 10)
    invalid = client.post(f"{base}components/{component.component_id}/", fields | {"tags": "no equals sign"})
    assert invalid.status_code == 422
    client.post(f"{base}components/{first.component_id}/delete/")
    assert not StatusComponent.objects.exists()


def test_incident_is_written_from_template_updated_and_deleted(client: Client, groups: list[str]) -> None:
    page = create_page()
    component = create_component(page, "Portal", device_groups=["site a"])
    base = reverse("dashboard:status-page", args=[page.page_id])
    template = {"name": "Slow", "kind": "incident", "title": "The portal is slow", "impact": "minor", "text": "Sorry."}
    assert client.post(f"{base}templates/", template).status_code == 302
    form = client.get(f"{base}incidents/?template={page.templates.get().template_id}")
    assert "The portal is slow" in form.text and "Sorry." in form.text
    fields = {"title": "The portal is slow", "status": "investigating", "impact": "minor", "text": "Sorry."}
    assert client.post(f"{base}incidents/", fields | {"components": [component.component_id]}).status_code == 302
    incident = StatusIncident.objects.get()
    assert "The portal is slow" in Client().get("/status/").text
    address = f"{base}incidents/{incident.incident_id}/"
    assert client.post(address, {"do": "update", "status": "investigating", "text": ""}).status_code == 422
    client.post(address, {"do": "update", "status": "resolved", "text": "Fast again."})
    client.post(address, {"do": "change", "title": "The portal was slow", "impact": "none"})
    incident.refresh_from_db()
    assert (incident.status, incident.title, incident.updates.count()) == ("resolved", "The portal was slow", 2)
    assert "Fast again." in Client().get("/status/history/").text
    client.post(f"{address}delete/")
    assert "The portal was slow" not in Client().get("/status/history/").text


def test_maintenance_is_planned_in_the_time_zone_of_the_user(client: Client, groups: list[str]) -> None:
    page = create_page()
    client.cookies["telemetry_time_zone"] = "Europe/Berlin"
    base = reverse("dashboard:status-page", args=[page.page_id])
    times = {"starts_at": "2030-07-01T20:00", "ends_at": "2030-07-01T22:00"}
    assert client.post(f"{base}maintenances/", {"title": "Network", **times}).status_code == 302
    assert StatusIncident.objects.get().starts_at.isoformat() == "2030-07-01T18:00:00+00:00"
    assert client.post(f"{base}maintenances/", {"title": "Network"}).status_code == 422
    assert "Planned maintenance" in Client().get("/status/").text


def test_every_page_of_status_pages_opens(client: Client, groups: list[str]) -> None:
    page = create_page()
    component = create_component(page, "Portal")
    base = reverse("dashboard:status-page", args=[page.page_id])
    for path in ("/status-pages/", base, f"{base}settings/", f"{base}components/{component.component_id}/"):
        assert client.get(path).status_code == 200
