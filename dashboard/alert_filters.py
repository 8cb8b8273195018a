"""Which alerts a page of them was asked for."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode

from django.db.models import Q
from django.http import QueryDict

from alerts.models import Level, Status
from alerts.models.alerts import AlertQuerySet

LONGEST_WORDS = 200
VIEWS = (
    ("", "Triage"),
    ("active", "Need someone"),
    ("mine", "Mine"),
    ("acknowledged", "Somebody has them"),
    ("resolved", "Resolved"),
)
AGES = (("", "Any age"), ("u1", "Under 1 h"), ("o1", "Over 1 h"), ("o24", "Over 24 h"))


@dataclass(frozen=True, slots=True)
class Filters:
    """The words of the address, as they were given; whatever is unknown asks for nothing that there is."""

    view: str = ""
    words: str = ""
    level: str = ""
    group: str = ""
    device: str = ""
    owner: str = ""
    rule: str = ""
    age: str = ""

    @classmethod
    def of(cls, given: QueryDict) -> "Filters":
        def word(name: str) -> str:
            return given.get(name, "").replace("\0", "").strip()[:LONGEST_WORDS]

        views = {key for key, _ in VIEWS}
        view = word("view")
        return cls(
            view if view in views else "", word("q"), word("level"), word("group"), word("device"),
            word("owner"), word("rule"), word("age"),
        )  # fmt: skip

    @property
    def narrows(self) -> bool:
        """Whether anything but the view was chosen."""
        return any((self.words, self.level, self.group, self.device, self.owner, self.rule, self.age))

    @property
    def address(self) -> str:
        """The same once more, as the query of an address."""
        return self.but(self.view)

    def but(self, view: str) -> str:
        """The same with another view."""
        named = {
            "view": view, "q": self.words, "level": self.level, "group": self.group, "device": self.device,
            "owner": self.owner, "rule": self.rule, "age": self.age,
        }  # fmt: skip
        return urlencode({name: value for name, value in named.items() if value})

    def narrow(self, alerts: AlertQuerySet, caller_name: str, now: datetime) -> AlertQuerySet:
        """Those that are meant; the view chooses among them by status."""
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
            alerts = _of_age(alerts, self.age, now)
        if self.words:
            named = Q(device_name__icontains=self.words) | Q(metric_name__icontains=self.words)
            told = Q(message__icontains=self.words) | Q(rule_name__icontains=self.words)
            alerts = alerts.filter(named | told | Q(device__name__icontains=self.words))
        return alerts

    @property
    def statuses(self) -> tuple[Status, ...]:
        """Of which a page has a section each."""
        if self.view in Status.values:
            return (Status(self.view),)
        return (Status.ACTIVE, Status.ACKNOWLEDGED) if self.view == "mine" else tuple(Status)


def _of_age(alerts: AlertQuerySet, age: str, now: datetime) -> AlertQuerySet:
    hours = int(age[1:]) if age[1:].isascii() and age[1:].isdigit() and len(age) < 5 else 0
    since = now - timedelta(hours=hours)
    return alerts.filter(triggered_at__gt=since) if age[0] == "u" else alerts.filter(triggered_at__lte=since)
