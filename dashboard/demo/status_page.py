"""The status page of the demo: two groups of components, an incident and planned maintenance."""

from datetime import datetime, timedelta

from dashboard.demo.content import PREFIX, TITLE
from dashboard.status_page import incidents, lifecycle
from dashboard.status_page.models import IncidentKind, IncidentTemplate, StatusPage
from rest.caller import Caller

SLUG = f"{PREFIX}status"
# Components by group of components: public name, and device group without TITLE.
COMPONENTS = {
    "Sites": {"Alpine site": "alpine site", "East plant": "east plant", "Harbour depot": "harbour depot"},
    "Services": {"Cold storage": "cold stores", "Data delivery": "gateways", "Applications": "servers"},
}


def create_status_page(end: datetime, caller: Caller) -> None:
    """Create the published page, if it does not exist."""
    if StatusPage.objects.filter(slug=SLUG).exists():
        return
    text = "A page of the demo data set; “manage.py demo --remove” deletes it."
    fields = {"slug": SLUG, "title": f"{TITLE}Tarnholm status", "text": text, "published": True}
    page = lifecycle.create_page(fields, caller)
    components = {}
    for group_name, leaves in COMPONENTS.items():
        group = lifecycle.create_component(page, {"name": group_name}, caller)
        for name, device_group in leaves.items():
            sources = {"parent": group, "device_groups": [f"{TITLE}{device_group}"]}
            components[name] = lifecycle.create_component(page, {"name": name, **sources}, caller)
    began = end - timedelta(minutes=80)
    incident = incidents.create_incident(
        page,
        IncidentKind.INCIDENT,
        {
            "title": "A cold store is too warm",
            "impact": "major",
            "text": "The temperature of one store rises. We are looking into it.",
            "starts_at": began,
            "components": [components["Cold storage"]],
        },
        caller,
        began,
    )
    text = "A compressor has failed. The goods are being moved to another store."
    incidents.add_update(incident, "identified", text, caller, end - timedelta(minutes=40))
    start = end.replace(minute=0, second=0, microsecond=0) + timedelta(days=2)
    incidents.create_incident(
        page,
        IncidentKind.MAINTENANCE,
        {
            "title": "The alpine site is rebuilt",
            "text": "Its readings may be delayed.",
            "starts_at": start,
            "ends_at": start + timedelta(days=1),
            "components": [components["Alpine site"]],
        },
        caller,
        end,
    )
    text = "Readings are delayed. None are lost: they will be filled in."
    IncidentTemplate.objects.create(page=page, name="Delayed readings", title="Readings are delayed", text=text)


def delete_status_page() -> None:
    for page in StatusPage.objects.filter(slug=SLUG):
        lifecycle.delete_page(page)
