"""Factories of status pages, their components, incidents and alerts."""

from datetime import datetime
from typing import Any

from alerts.models import Alert, Rule
from dashboard.status_page.models import IncidentKind, StatusComponent, StatusIncident, StatusPage, StatusUpdate
from tests.alerts.factories import build_alert, create_device


def create_page(slug: str = "main", **fields: Any) -> StatusPage:
    return StatusPage.objects.create(**{"slug": slug, "title": "Tarnholm status", "published": True} | fields)


def create_component(
    page: StatusPage, name: str, parent: StatusComponent | None = None, **fields: Any
) -> StatusComponent:
    return StatusComponent.objects.create(page=page, name=name, parent=parent, **fields)


def create_incident(page: StatusPage, *components: StatusComponent, **fields: Any) -> StatusIncident:
    text = fields.pop("text", "We are looking into it.")
    incident = StatusIncident.objects.create(
        **{"page": page, "title": "Readings are delayed", "status": "investigating", "impact": "minor"} | fields
    )
    incident.components.set(components)
    StatusUpdate.objects.create(incident=incident, status=incident.status, text=text, at=incident.starts_at)
    return incident


def create_maintenance(page: StatusPage, *components: StatusComponent, **fields: Any) -> StatusIncident:
    fields = {"kind": IncidentKind.MAINTENANCE, "status": "scheduled", "impact": "maintenance"} | fields
    return create_incident(page, *components, **{"title": "New network", "text": "Short breaks."} | fields)


def store_alert(
    rule: Rule, device_id: str, start: datetime, end: datetime | None = None, group: str | None = None, **fields: Any
) -> Alert:
    """Store an alert that was open from `start` to `end`; still open without an end."""
    alert = build_alert(rule, create_device(device_id, group), start, **fields)
    if end is not None:
        alert.status, alert.resolved_at = "resolved", end
    alert.save()
    return alert
