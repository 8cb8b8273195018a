"""The filters of the inbox, read from the address."""

from datetime import timedelta
from functools import reduce
from operator import or_
from typing import NamedTuple
from urllib.parse import urlencode

from django.db.models import Q
from django.http import QueryDict
from django.utils import timezone

from alerts.models import Status
from alerts.models.alerts import AlertQuerySet
from dashboard.pagination import text_of, to_int
from metrics.models import Device, DeviceGroup
from rest.caller import Caller

VIEWS = (
    ("", "Triage"),
    ("active", "Unacknowledged"),
    ("mine", "Assigned to me"),
    ("acknowledged", "Acknowledged"),
    ("resolved", "Resolved"),
)
MAX_AGE_HOURS = 999
AGES = (("", "Any age"), ("u1", "Under 1 h"), ("o1", "Over 1 h"), ("o24", "Over 24 h"))


class InboxFilters(NamedTuple):
    """The filters as they were given. A value that does not exist matches no alert."""

    view: str = ""
    q: str = ""  # search words
    level: str = ""
    group: str = ""
    device: str = ""
    owner: str = ""
    rule: str = ""
    age: str = ""

    @classmethod
    def parse(cls, query: QueryDict) -> "InboxFilters":
        """Read the parameters of an address."""
        filters = {name: text_of(query, name) for name in cls._fields}
        return cls(**filters | {"view": filters["view"] if filters["view"] in dict(VIEWS) else ""})

    @property
    def narrows(self) -> bool:
        """Whether a filter other than the view is set."""
        return bool(self.query_with_view(""))

    @property
    def query(self) -> str:
        """The filters as the query of an address."""
        return self.query_with_view(self.view)

    def query_with_view(self, view: str) -> str:
        """Return the query with another view."""
        parameters = self._asdict() | {"view": view}
        return urlencode({name: value for name, value in parameters.items() if value})

    def apply(self, alerts: AlertQuerySet, caller: Caller) -> AlertQuerySet:
        """Return the alerts that match; the status of a view is applied by the inbox."""
        lookups = {
            "level": self.level,
            "device_name": self.device,
            "rule__rule_id": self.rule,
        }
        alerts = alerts.filter(**{lookup: value for lookup, value in lookups.items() if value})
        if self.group:
            groups = DeviceGroup.objects.visible_to(caller).filter(name=self.group)
            alerts = alerts.filter(device__in=Device.objects.in_groups(groups))
        if self.owner:
            owners = {"me": caller.name, "nobody": ""}
            alerts = alerts.filter(owner=owners.get(self.owner, self.owner))
        if self.view == "mine":
            alerts = alerts.open().filter(owner=caller.name)
        if self.age:
            alerts = _filter_age(alerts, self.age)
        if self.q:
            searched = ("device_name", "metric_name", "message", "rule_name", "device__name")
            matches = (Q((f"{name}__icontains", self.q)) for name in searched)
            alerts = alerts.filter(reduce(or_, matches))
        return alerts

    @property
    def statuses(self) -> tuple[Status, ...]:
        """The statuses that the page has a section for."""
        if self.view in Status.values:
            return (Status(self.view),)
        return (Status.ACTIVE, Status.ACKNOWLEDGED) if self.view == "mine" else tuple(Status)


def _filter_age(alerts: AlertQuerySet, age: str) -> AlertQuerySet:
    since = timezone.now() - timedelta(hours=min(to_int(age[1:]), MAX_AGE_HOURS))
    return alerts.filter(triggered_at__gt=since) if age[0] == "u" else alerts.filter(triggered_at__lte=since)
