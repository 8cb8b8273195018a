"""Alerts as the pages show them: words for values, limits, ages and people; the worst first, incidents as one row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import Case, Count, Exists, IntegerField, OuterRef, Q, Value, When, Window
from django.db.models.functions import RowNumber

from alerts.conditions.spec import ANY_METRIC
from alerts.models import LEVEL_RANKS, Alert, Kind, Level, Status
from alerts.models.alerts import AlertQuerySet
from dashboard.device_overview import EVER
from dashboard.number_format import duration_text, reading
from metrics.models import MetricDefinition
from metrics.query import latest

CHILDREN = 20  # of an incident, that are shown below its worst alert
WEIGHT = Case(
    *(When(level=level, then=Value(weight)) for level, weight in LEVEL_RANKS.items()), output_field=IntegerField()
)

ELSEWHERE = ("sum", "count", "stddev", "rate")  # aggregates that are not among the values that they are of

UnitOf = Callable[[Alert], str]


def person(name: str) -> str:
    """Whoever did something, without what it is: `user:mei` is mei."""
    return name.split(":")[-1]


@dataclass(frozen=True, slots=True)
class AlertRow:
    """An alert as a row; of an incident the worst, with the others below it."""

    alert: Alert
    unit: str
    now: datetime
    together: int = 1
    children: list["AlertRow"] = field(default_factory=list)

    @property
    def title(self) -> str:
        """What is wrong; what a whole incident is called, where it is one."""
        incident = self.alert.incident
        return incident.title if self.together > 1 and incident is not None else self.alert.message

    @property
    def chosen_as(self) -> str:
        """What the row's verbs act on: the alert, or all of the incident."""
        incident = self.alert.incident
        return incident.incident_id if self.together > 1 and incident is not None else self.alert.alert_id

    @property
    def sign(self) -> str:
        return "resolved" if self.is_over else self.alert.level

    @property
    def is_over(self) -> bool:
        return self.alert.status == Status.RESOLVED

    @property
    def needs_someone(self) -> bool:
        return self.alert.status == Status.ACTIVE

    @property
    def look(self) -> str:
        """Of the level's sign: solid while it needs somebody, an outline while somebody has it, grey once over."""
        return {Status.ACKNOWLEDGED: "owned", Status.RESOLVED: "gone"}.get(Status(self.alert.status), "")

    @property
    def age(self) -> str:
        return duration_text((self.now - self.alert.triggered_at).total_seconds())

    @property
    def lasted(self) -> str:
        until = self.alert.resolved_at or self.now
        return duration_text((until - self.alert.triggered_at).total_seconds())

    @property
    def value(self) -> str:
        return with_unit(self.alert.value, self.unit)

    @property
    def worst(self) -> str:
        return with_unit(self.alert.worst_value, self.unit)

    @property
    def band(self) -> tuple[float, float] | None:
        """Where an anomaly detector expected the value."""
        given = self.alert.evidence.get("band")
        return (given[0], given[1]) if isinstance(given, list) and len(given) == 2 else None

    @property
    def limit(self) -> str:
        if self.band is not None:
            low, high = (reading(edge, self.unit)[0] for edge in self.band)
            return f"usual {low} to {high}"
        return "" if self.alert.threshold is None else f"limit {reading(self.alert.threshold, self.unit)[0]}"

    @property
    def has_course(self) -> bool:
        return has_course(self.alert)

    @property
    def owner(self) -> str:
        return person(self.alert.owner)

    @property
    def resolver(self) -> str:
        return person(self.alert.resolved_by)

    @property
    def runbook(self) -> str:
        """Only what a browser opens as a page: an address may also be a script."""
        address = self.alert.runbook_url
        return address if address.startswith(("https://", "http://")) else ""


def has_course(alert: Alert) -> bool:
    """Whether there may be a line of what was measured: of one metric, of a device that is there."""
    return alert.device is not None and alert.metric_name != ANY_METRIC


def drawn_limit(alert: Alert) -> float | None:
    """The limit, where it has a place among the values: a slope has none, nor has a number of values."""
    rule, limit = alert.rule, alert.threshold
    if not isinstance(limit, (int, float)) or isinstance(limit, bool):
        return None
    return None if rule is not None and (rule.kind == Kind.TREND or rule.aggregation in ELSEWHERE) else limit


def with_unit(value: Any, unit: str) -> str:
    """`4.20 °C`; nothing was heard where there is no value."""
    if value is None:
        return "no data"
    return "\N{NO-BREAK SPACE}".join(part for part in reading(value, unit) if part)


def rows_of(alerts: Sequence[Alert], now: datetime) -> list[AlertRow]:
    unit_of = units_of(alerts)
    return [AlertRow(alert, unit_of(alert), now) for alert in alerts]


def units_of(alerts: Sequence[Alert]) -> UnitOf:
    """The unit of each of these alerts: what its metric's definition says, else what its device sent last."""
    names = {alert.metric_name for alert in alerts}
    defined = dict(MetricDefinition.objects.filter(name__in=names).exclude(unit="").values_list("name", "unit"))
    unsaid = [alert for alert in alerts if alert.device_id is not None and alert.metric_name not in defined]
    sent = {}
    if unsaid:
        devices, metrics = ({alert.device_name for alert in unsaid}, {alert.metric_name for alert in unsaid})
        for point in latest.read_latest_points(sorted(devices), sorted(metrics), EVER).points:
            sent[point.device_id, point.metric_name] = point.unit or ""
    return lambda alert: defined.get(alert.metric_name) or sent.get((alert.device_name, alert.metric_name), "")


def heads(found: AlertQuerySet) -> AlertQuerySet:
    """Of each incident the worst of these alerts, of several the first; and all that are in none."""
    among = found.filter(incident=OuterRef("incident")).annotate(weight=WEIGHT)
    worse = among.filter(Q(weight__gt=OuterRef("weight")) | Q(weight=OuterRef("weight"), pk__lt=OuterRef("pk")))
    return found.annotate(weight=WEIGHT).filter(Q(incident=None) | ~Exists(worse))


def worst_first(found: AlertQuerySet, start: int, number: int) -> list[Alert]:
    """The worst, of a level the newest first: a few of each level by the index, instead of all of them sorted."""
    few = [
        found.filter(level=level).order_by("-triggered_at", "-id").values("pk")[: start + number]
        for level in Level.values
    ]
    chosen = Alert.objects.filter(pk__in=few[0].union(*few[1:], all=True)).select_related("incident", "device", "rule")
    return list(chosen.annotate(weight=WEIGHT).order_by("-weight", "-triggered_at", "-id")[start : start + number])


def children(heads: Sequence[Alert], found: AlertQuerySet) -> list[Any]:
    """The first of those of `found` that are in the incidents of these; each knows how many they are (`together`)."""
    incidents = {alert.incident_id for alert in heads if alert.incident_id is not None}
    if not incidents:
        return []
    numbered = found.filter(incident__in=incidents).annotate(
        weight=WEIGHT,
        together=Window(Count("pk"), partition_by="incident"),
        place=Window(RowNumber(), partition_by="incident", order_by=["-weight", "pk"]),
    )
    return list(numbered.filter(place__lte=CHILDREN + 1).select_related("device").order_by("incident", "place"))


def with_children(heads: Sequence[Alert], below: Sequence[Any], unit_of: UnitOf, now: datetime) -> list[AlertRow]:
    """Rows of the heads of incidents, each with those that are below it; and of alerts that are in none."""
    rows = []
    for head in heads:
        others = [one for one in below if one.incident_id == head.incident_id]
        shown = [AlertRow(one, unit_of(one), now) for one in others if one.pk != head.pk]
        rows.append(AlertRow(head, unit_of(head), now, others[0].together if others else 1, shown))
    return rows
