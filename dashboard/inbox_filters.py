"""The filters of the inbox, read from the address."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from urllib.parse import urlencode

from django.db.models import Q
from django.http import QueryDict

from alerts.models import Level, Status
from alerts.models.alerts import AlertQuerySet
from dashboard.pagination import MAX_SEARCH_LENGTH

VIEWS = (
    ("", "Triage"),
    ("active", "Unacknowledged"),
    ("mine", "Assigned to me"),
    ("acknowledged", "Acknowledged"),
    ("resolved", "Resolved"),
)
AGES = (("", "Any age"), ("u1", "Under 1 h"), ("o1", "Over 1 h"), ("o24", "Over 24 h"))


@dataclass(frozen=True, slots=True)
class InboxFilters:
    """The filters as they were given. A value that does not exist matches no alert."""

    view: str = ""
    search: str = ""
    level: str = ""
    group: str = ""
    device: str = ""
    owner: str = ""
    rule: str = ""
    age: str = ""

    @classmethod
    def parse(cls, query: QueryDict) -> "InboxFilters":
        """Read the parameters of an address."""

        def text(name: str) -> str:
            return query.get(name, "").replace("\0", "").strip()[:MAX_SEARCH_LENGTH]

        view = text("view") if text("view") in dict(VIEWS) else ""
        return cls(
            view, text("q"), text("level"), text("group"), text("device"), text("owner"), text("rule"), text("age")
        )

    @property
    def narrows(self) -> bool:
        """Whether a filter other than the view is set."""
        return any((self.search, self.level, self.group, self.device, self.owner, self.rule, self.age))

    @property
    def query(self) -> str:
        """The filters as the query of an address."""
        return self.query_with_view(self.view)

    def query_with_view(self, view: str) -> str:
        """Return the query with another view."""
        parameters = {
            "view": view, "q": self.search, "level": self.level, "group": self.group, "device": self.device,
            "owner": self.owner, "rule": self.rule, "age": self.age,
        }  # fmt: skip
        return urlencode({name: value for name, value in parameters.items() if value})

    def apply(self, alerts: AlertQuerySet, caller_name: str, now: datetime) -> AlertQuerySet:
        """Return the alerts that match; the status of a view is applied by the inbox."""
        if self.level:
            alerts = alerts.filter(level=self.level) if self.level in Level.values else alerts.none()
        if self.group:
            alerts = alerts.filter(device__groups__name=self.group)
        if self.device:
            alerts = alerts.filter(device_name=self.device)
        if self.rule:
            alerts = alerts.filter(rule__rule_id=self.rule)
        if self.owner:
            owners = {"me": caller_name, "nobody": ""}
            alerts = alerts.filter(owner=owners.get(self.owner, self.owner))
        if self.view == "mine":
            alerts = alerts.open().filter(owner=caller_name)
        if self.age:
            alerts = _filter_age(alerts, self.age, now)
        if self.search:
            fields = ("device_name", "metric_name", "message", "rule_name", "device__name")
            matches = (Q((f"{field}__icontains", self.search)) for field in fields)
            alerts = alerts.filter(reduce(or_, matches))
        return alerts

    @property
    def statuses(self) -> tuple[Status, ...]:
        """The statuses that the page has a section for."""
        if self.view in Status.values:
            return (Status(self.view),)
        return (Status.ACTIVE, Status.ACKNOWLEDGED) if self.view == "mine" else tuple(Status)


def _filter_age(alerts: AlertQuerySet, age: str, now: datetime) -> AlertQuerySet:
    hours = int(age[1:]) if age[1:].isascii() and age[1:].isdigit() and len(age) < 5 else 0
    since = now - timedelta(hours=hours)
    return alerts.filter(triggered_at__gt=since) if age[0] == "u" else alerts.filter(triggered_at__lte=since)
