"""Alerts as the pages show them: in words, the worst first, incidents as one row."""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from django.db.models import Case, Count, Exists, IntegerField, OuterRef, Q, Value, When, Window
from django.db.models.functions import RowNumber
from django.utils.timezone import localtime

from alerts.alert_values import headline
from alerts.conditions.spec import ANY_METRIC
from alerts.models import LEVEL_RANKS, Alert, Incident, Level, Resolution, RuleKind, Status
from alerts.models.alerts import AlertQuerySet
from alerts.silenced_alerts import CoveringSilence, covering_silences
from dashboard.device_overview import NEWEST_WITHIN
from metrics.models import MetricDefinition
from metrics.query import latest
from metrics.value_text import with_unit

MAX_CHILDREN = 20  # alerts of an incident shown below its worst one
WEIGHT = Case(
    *(When(level=level, then=Value(weight)) for level, weight in LEVEL_RANKS.items()), output_field=IntegerField()
)
# Aggregations whose results cannot be drawn on the axis of the values.
OFF_AXIS_AGGREGATIONS = ("sum", "count", "stddev", "rate")
RESOLUTIONS = {
    Resolution.RECOVERED: "values recovered",
    Resolution.TIMEOUT: "no breach for the auto-resolve time",
    Resolution.RETROACTIVE: "over when its data arrived",
    Resolution.RULE: "rule changed or deleted",
    Resolution.DEVICE: "device deleted",
}

UnitOf = Callable[[Alert], str]


def display_name(name: str) -> str:
    """Return the name of a person or program without its kind: "mei" of "user:mei"."""
    return name.split(":")[-1]


class AlertRow(NamedTuple):
    """An alert as a row; of an incident its worst alert, with the others as children."""

    alert: Alert
    unit: str
    incident_size: int = 1  # alerts of the row
    children: Sequence["AlertRow"] = ()
    incident_open: bool = False  # whether the alert is resolved and others of its incident are open
    cover: CoveringSilence | None = None  # the silence that covers the alert now

    @property
    def incident(self) -> Incident | None:
        """The incident of several alerts that the row shows."""
        return self.alert.incident if self.incident_size > 1 else None

    @property
    def is_over(self) -> bool:
        """Whether the alert is resolved, and its incident too."""
        return self.alert.status == Status.RESOLVED and not self.incident_open

    @property
    def headline(self) -> str:
        """The rule and the series, without the value that opened the alert, which may be old."""
        return headline(self.alert)

    @property
    def subject(self) -> str:
        """The device, and which metric it is or how many alerts of its incident the row has."""
        alert = self.alert
        device = str(alert.device or alert.device_name)
        if self.incident_size > 1:
            return f"{device} and {self.incident_size - 1} more in this incident"
        return device if alert.metric_name == ANY_METRIC else f"{device}, {alert.metric_name}"

    @property
    def selection_id(self) -> str:
        """The ID that the row's actions apply to: of the alert, or of its incident with the status of the row."""
        return f"{self.incident.incident_id}:{self.alert.status}" if self.incident else self.alert.alert_id

    @property
    def expected_range(self) -> tuple[float, float] | None:
        """The range in which an anomaly detector expected the value."""
        band = self.alert.evidence.get("band")
        return (band[0], band[1]) if isinstance(band, list) and len(band) == 2 else None

    @property
    def value(self) -> str:
        """The value that opened the alert, as the message has it."""
        return with_unit(self.alert.value, self.unit, self.alert.threshold)

    @property
    def peak(self) -> str:
        """The value furthest beyond the threshold, if there was one after the value that opened the alert."""
        alert = self.alert
        if alert.worst_value is None or alert.worst_value == alert.value or "measured" in alert.evidence:
            return ""
        return with_unit(alert.worst_value, self.unit, alert.threshold)

    @property
    def threshold(self) -> str:
        """The threshold, or the expected range, in words."""
        alert = self.alert
        if self.expected_range is not None:
            low, high = (with_unit(edge, self.unit) for edge in self.expected_range)
            return f"expected {low} to {high}"
        return "" if alert.threshold is None else f"threshold {with_unit(alert.threshold, self.unit, alert.value)}"

    @property
    def resolution(self) -> str:
        """How the alert was resolved, as the end of a phrase: " by mei" or ": values recovered"."""
        if self.alert.resolution == Resolution.PERSON:
            return f" by {display_name(self.alert.resolved_by)}"
        return f": {RESOLUTIONS.get(Resolution(self.alert.resolution), self.alert.resolution)}"

    @property
    def runbook(self) -> str:
        """The runbook's address where it is a web page; other schemes, such as javascript, are no links."""
        address = self.alert.runbook_url
        return address if address.startswith(("https://", "http://")) else ""


def has_sparkline(alert: Alert) -> bool:
    """Return whether the alert can have a sparkline: it is of one metric, and its device exists."""
    return alert.device is not None and alert.metric_name != ANY_METRIC


def drawn_threshold(alert: Alert) -> float | None:
    """Return the threshold where it can be drawn among the values, which a slope or a count cannot."""
    rule, threshold = alert.rule, alert.threshold
    if not isinstance(threshold, int | float) or isinstance(threshold, bool):
        return None
    is_off_axis = rule is not None and (rule.kind == RuleKind.TREND or rule.aggregation in OFF_AXIS_AGGREGATIONS)
    return None if is_off_axis else threshold


def rows_of(alerts: Sequence[Alert]) -> list[AlertRow]:
    """Return a row for each alert."""
    unit_of, covers = units_of(alerts), covering_silences(alerts)
    return [AlertRow(alert, unit_of(alert), cover=covers.get(alert.pk)) for alert in alerts]


def cover_text(cover: CoveringSilence) -> str:
    """Return the end and the author of the silence of an alert."""
    until = f"{localtime(cover.until):%-d %b %H:%M}" if cover.until else "resolved"
    return f"silenced until {until} by {display_name(cover.silence.created_by)}"


def units_of(alerts: Sequence[Alert]) -> UnitOf:
    """Return a function from an alert to the unit of its values.

    It is stored when the alert opens; older alerts have the unit of the metric definition, or of the newest point.
    """
    alerts = [alert for alert in alerts if "unit" not in alert.evidence]
    names = {alert.metric_name for alert in alerts}
    defined = dict(MetricDefinition.objects.filter(name__in=names).exclude(unit="").values_list("name", "unit"))
    undefined = [alert for alert in alerts if alert.device_id is not None and alert.metric_name not in defined]
    sent = {}
    if undefined:
        devices, metrics = ({alert.device_name for alert in undefined}, {alert.metric_name for alert in undefined})
        for point in latest.read_latest_points(sorted(devices), sorted(metrics), NEWEST_WITHIN).points:
            sent[point.device_id, point.metric_name] = point.unit or ""

    def unit_of(alert: Alert) -> str:
        if "unit" in alert.evidence:
            return str(alert.evidence["unit"])
        return defined.get(alert.metric_name) or sent.get((alert.device_name, alert.metric_name), "")

    return unit_of


def incident_heads(alerts: AlertQuerySet) -> AlertQuerySet:
    """Return the worst alert of each incident (the first of equal ones), and the alerts that are in no incident."""
    same_incident = alerts.filter(incident=OuterRef("incident")).annotate(weight=WEIGHT)
    worse = Q(weight__gt=OuterRef("weight")) | Q(weight=OuterRef("weight"), pk__lt=OuterRef("pk"))
    return alerts.annotate(weight=WEIGHT).filter(Q(incident=None) | ~Exists(same_incident.filter(worse)))


def worst_first(alerts: AlertQuerySet, start: int, count: int) -> list[Alert]:
    """Return a page of alerts by level and then newest first.

    The index finds the newest of each level, so that not all alerts are sorted.
    """
    newest = [
        alerts.filter(level=level).order_by("-triggered_at", "-id").values("pk")[: start + count]
        for level in Level.values
    ]
    candidates = Alert.objects.filter(pk__in=newest[0].union(*newest[1:], all=True))
    ordered = candidates.annotate(weight=WEIGHT).order_by("-weight", "-triggered_at", "-id")
    return list(ordered.select_related("incident", "device", "rule")[start : start + count])


def incident_alerts(heads: Sequence[Alert], alerts: AlertQuerySet) -> list[Any]:
    """Return the worst alerts of the incidents of `heads`, annotated with `incident_size`."""
    incidents = {alert.incident_id for alert in heads if alert.incident_id is not None}
    if not incidents:
        return []
    ranked = alerts.filter(incident__in=incidents).annotate(
        weight=WEIGHT,
        incident_size=Window(Count("pk"), partition_by="incident"),
        rank=Window(RowNumber(), partition_by="incident", order_by=["-weight", "pk"]),
    )
    return list(ranked.filter(rank__lte=MAX_CHILDREN + 1).select_related("device").order_by("incident", "rank"))


def open_incidents(alerts: Iterable[Alert], visible: AlertQuerySet) -> set[int]:
    """Return the primary keys of the incidents of resolved alerts in which other alerts are open."""
    incidents = {alert.incident_id for alert in alerts if alert.status == Status.RESOLVED and alert.incident_id}
    if not incidents:
        return set()
    still_open = visible.open().filter(incident__in=incidents).order_by()
    return set(still_open.values_list("incident_id", flat=True).distinct())


def with_children(
    heads: Sequence[Alert],
    in_incidents: Sequence[Any],
    unit_of: UnitOf,
    still_open: Container[int | None] = (),
    covers: Mapping[int, CoveringSilence] = MappingProxyType({}),
) -> list[AlertRow]:
    """Return a row for each head, with the other alerts of its incident as children."""

    def row_of(alert: Alert, size: int = 1, children: Sequence[AlertRow] = ()) -> AlertRow:
        is_open = alert.status == Status.RESOLVED and alert.incident_id in still_open
        return AlertRow(alert, unit_of(alert), size, children, is_open, covers.get(alert.pk))

    rows = []
    for head in heads:
        together = [alert for alert in in_incidents if alert.incident_id == head.incident_id]
        children = [row_of(alert) for alert in together if alert.pk != head.pk]
        rows.append(row_of(head, together[0].incident_size if together else 1, children))
    return rows
