"""JSON in the shape of version 2 of Statuspage's API, so that its clients read this site unchanged."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from dashboard.status_page.snapshot import PageSnapshot, PublicComponent, PublicIncident, PublicState

# Statuspage has no state for missing data: it is reported as degraded, since it is not known to be operational.
_STATUS = {state: state.value for state in PublicState} | {PublicState.UNKNOWN: PublicState.DEGRADED.value}
_INDICATORS = {
    PublicState.OPERATIONAL: "none",
    PublicState.UNDER_MAINTENANCE: "maintenance",
    PublicState.UNKNOWN: "minor",
    PublicState.DEGRADED: "minor",
    PublicState.PARTIAL_OUTAGE: "major",
    PublicState.MAJOR_OUTAGE: "critical",
}
Document = dict[str, Any]
DOCUMENTS = (
    "summary",
    "status",
    "components",
    "incidents",
    "incidents/unresolved",
    "scheduled-maintenances",
    "scheduled-maintenances/upcoming",
    "scheduled-maintenances/active",
)  # paths without .json


class StatuspageDocuments:
    """The documents of the API by path, of one page at `url`."""

    def __init__(self, snapshot: PageSnapshot, url: str) -> None:
        self.snapshot = snapshot
        self.url = url

    def document(self, path: str) -> Document:
        """Return a document by its path without `.json`. Raises KeyError."""
        page = {"page": self._page()}
        match path:
            case "summary":
                return page | self._summary()
            case "status":
                return page | self._status()
            case "components":
                return page | {"components": self._components(self.snapshot.components)}
            case "incidents":
                return page | {"incidents": self._incidents(self.snapshot.incidents)}
            case "incidents/unresolved":
                return page | {"incidents": self._incidents(self.snapshot.open_incidents)}
            case "scheduled-maintenances":
                return page | {"scheduled_maintenances": self._incidents(self.snapshot.maintenances)}
            case "scheduled-maintenances/upcoming":
                return page | {"scheduled_maintenances": self._incidents(self.snapshot.upcoming_maintenances)}
            case "scheduled-maintenances/active":
                return page | {"scheduled_maintenances": self._incidents(self.snapshot.active_maintenances)}
        raise KeyError(path)

    def webhook_page(self) -> Document:
        """Return the page as webhooks of Statuspage have it."""
        status = self._status()["status"]
        return {
            "id": self.snapshot.id,
            "status_indicator": status["indicator"],
            "status_description": status["description"],
        }

    def _summary(self) -> Document:
        snapshot = self.snapshot
        planned = [*snapshot.active_maintenances, *snapshot.upcoming_maintenances]
        return {
            "components": self._components(snapshot.components),
            "incidents": self._incidents(snapshot.open_incidents),
            "scheduled_maintenances": self._incidents(planned),
        } | self._status()

    def _page(self) -> Document:
        snapshot = self.snapshot
        return {
            "id": snapshot.id,
            "name": snapshot.title,
            "url": self.url,
            "time_zone": snapshot.zone.key,
            "updated_at": self._time(snapshot.updated_at),
        }

    def _status(self) -> Document:
        state = self.snapshot.state
        return {"status": {"indicator": _INDICATORS[state], "description": self.snapshot.headline}}

    def _components(self, components: Iterable[PublicComponent]) -> list[Document]:
        return [self._component(component) for component in components]

    def _component(self, component: PublicComponent) -> Document:
        since = component.measured_since
        document: Document = {
            "id": component.id,
            "name": component.name,
            "status": _STATUS[component.state],
            "created_at": self._time(component.created_at),
            "updated_at": self._time(component.updated_at),
            "position": component.position + 1,
            "description": component.description or None,
            "showcase": not component.is_group,
            "start_date": since.astimezone(self.snapshot.zone).date().isoformat() if since else None,
            "group_id": component.parent_id,
            "page_id": self.snapshot.id,
            "group": component.is_group,
            "only_show_if_degraded": False,
        }
        return document | ({"components": list(component.child_ids)} if component.is_group else {})

    def _incidents(self, incidents: Iterable[PublicIncident]) -> list[Document]:
        return [self.incident(incident) for incident in incidents]

    def incident(self, incident: PublicIncident) -> Document:
        components = self.snapshot.component_by_id
        affected = [components[name] for name in incident.component_ids if name in components]
        monitoring = [update.at for update in incident.updates if update.status == "monitoring"]
        document: Document = {
            "id": incident.id,
            "name": incident.title,
            "status": incident.status,
            "created_at": self._time(incident.created_at),
            "updated_at": self._time(incident.updated_at),
            "monitoring_at": self._time(min(monitoring, default=None)),
            "resolved_at": self._time(incident.closed_at),
            "impact": incident.impact,
            "shortlink": f"{self.url}incidents/{incident.id}/",
            "started_at": self._time(incident.starts_at),
            "page_id": self.snapshot.id,
            "incident_updates": [self._update(incident, number) for number in range(len(incident.updates))],
            "components": self._components(affected),
            "reminder_intervals": None,
        }
        if incident.is_maintenance:
            document["scheduled_for"] = self._time(incident.starts_at)
            document["scheduled_until"] = self._time(incident.ends_at)
        return document

    def _update(self, incident: PublicIncident, number: int) -> Document:
        update = incident.updates[number]
        at = self._time(update.at)
        return {
            "id": update.id,
            "status": update.status,
            "body": update.text,
            "incident_id": incident.id,
            "created_at": at,
            "updated_at": at,
            "display_at": at,
            "affected_components": None,  # updates do not set states here: these are measured
            "deliver_notifications": True,
            "custom_tweet": None,
            "tweet_id": None,
        }

    def _time(self, at: datetime | None) -> str | None:
        return at.astimezone(self.snapshot.zone).isoformat(timespec="milliseconds") if at is not None else None
