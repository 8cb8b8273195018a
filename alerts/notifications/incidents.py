"""Incidents: alerts that open within minutes of each other and have a common cause, such as a failing site or gateway.

A cause is something that devices share (a device group, or the value of the tag `gateway` or `site`), else the rule.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from django.db.models import Count, Exists, OuterRef, Q, QuerySet

from alerts import timeline
from alerts.models import LEVEL_RANKS, Alert, EventKind, Incident, RuleKind
from metrics.models import NAME_LENGTH, Device, DeviceGroup

MIN_INCIDENT_ALERTS = 5
START_WINDOW = timedelta(minutes=2)  # within which the alerts of a new incident open
JOIN_WINDOW = timedelta(minutes=5)  # after the last alert of an incident, within which further ones join it
MAX_RECENT_ALERTS = 5000
CAUSE_TAGS = ("gateway", "site")

# Other alerts of the same series, rule name and level in the incident: the alert does not change the incident's title.
# A flapping alert may join thousands of times.
_SAME_IN_INCIDENT = Alert.objects.filter(
    rule=OuterRef("rule"),
    device=OuterRef("device"),
    metric_name=OuterRef("metric_name"),
    incident=OuterRef("incident"),
    rule_name=OuterRef("rule_name"),
    level=OuterRef("level"),
).exclude(pk=OuterRef("pk"))

AlertCauses = dict[int, list[str]]  # by primary key of the alert


def assign_incidents(alerts: Sequence[Alert], now: datetime) -> None:
    """Add new alerts to the incidents of their causes, or open incidents together with other recent alerts.

    Must be called in a transaction. Two evaluators that run at the same time may each open an incident of one cause;
    their notifications are still sent together, because messages are grouped by cause.
    """
    causes = find_causes(alerts)
    joinable = _find_joinable({cause for alert_causes in causes.values() for cause in alert_causes}, now)
    unassigned: list[Alert] = []
    for alert in alerts:
        cause = next((cause for cause in causes[alert.pk] if cause in joinable), None)
        alert.incident = joinable[cause] if cause else None
        if cause is None:
            unassigned.append(alert)
    assigned = [alert for alert in alerts if alert.incident is not None]
    if unassigned:
        assigned += _open_incidents(unassigned, causes, now)
    _save(assigned, now)


def find_causes(alerts: Iterable[Alert]) -> AlertCauses:
    """Return the possible causes of each alert: groups of its device, its `gateway` and `site` tags, and its rule.

    `alert.rule` must be loaded.
    """
    alerts = list(alerts)
    devices = {alert.device_id for alert in alerts if alert.device_id is not None}
    by_device: defaultdict[int, list[str]] = defaultdict(list)
    membership = Device.groups.through.objects.filter(device_id__in=devices).order_by("devicegroup__name")
    for device, group in membership.values_list("device_id", "devicegroup__name"):
        by_device[device].append(f"group:{group}")
    tagged = Device.objects.filter(pk__in=devices, tags__has_any_keys=CAUSE_TAGS).values_list("pk", "tags")
    for device, tags in tagged:
        by_device[device] += [f"{tag}:{tags[tag]}"[:NAME_LENGTH] for tag in CAUSE_TAGS if tag in tags]
    return {
        alert.pk: [
            *by_device.get(alert.device_id or 0, ()),
            f"rule:{alert.rule.rule_id if alert.rule else alert.rule_name}",
        ]
        for alert in alerts
    }


def group_by_cause(causes: AlertCauses, min_size: int) -> list[tuple[str, list[int]]]:
    """Group alerts by causes that at least `min_size` of them share; each alert is in one group at most.

    Device groups with alerts on at least half of their devices come before the other causes. Rules come last: a failing
    device group says more than the rule that detected it.
    """
    remaining = dict(causes)
    groups: list[tuple[str, list[int]]] = []
    sizes = _count_devices(cause for cause, count in _count_alerts(remaining).items() if count >= min_size)
    while True:
        counts = {cause: count for cause, count in _count_alerts(remaining).items() if count >= min_size}
        if not counts:
            return groups

        def priority(cause: str) -> tuple[bool, bool, int, str]:
            size = sizes.get(cause, 0)
            return cause.startswith("rule:"), 2 * counts[cause] < size, -counts[cause], cause  # noqa: B023

        best = min(counts, key=priority)
        members = [pk for pk, alert_causes in remaining.items() if best in alert_causes]
        groups.append((best, members))
        for pk in members:
            del remaining[pk]


def build_incident_title(alerts: Sequence[Alert], cause: str, device_count: int | None = None) -> str:
    """Return a title such as "12 devices of site a: no data", with the rule of the most severe alert."""
    worst = min(alerts, key=lambda alert: -LEVEL_RANKS[alert.level])
    count = device_count if device_count is not None else len({alert.device_name for alert in alerts})
    kind, _, name = cause.partition(":")
    where = "" if kind == "rule" else f" of {name}"
    problem = "no data" if worst.rule is not None and worst.rule.kind == RuleKind.ABSENCE else worst.rule_name
    more = " and more" if len({alert.rule_name for alert in alerts}) > 1 else ""
    return f"{count} {'device' if count == 1 else 'devices'}{where}: {problem}{more}"[: 2 * NAME_LENGTH]


def describe_incident(alerts: QuerySet[Alert], cause: str) -> str:
    """Return the title of an incident with these alerts; one alert per rule and level is read for it."""
    rows = alerts.order_by("rule_name", "level").distinct("rule_name", "level").select_related("rule")
    device_count = alerts.order_by().aggregate(count=Count("device_name", distinct=True))["count"]
    return build_incident_title(list(rows), cause, device_count)


def _count_alerts(causes: AlertCauses) -> Counter[str]:
    return Counter(cause for alert_causes in causes.values() for cause in alert_causes)


def _count_devices(causes: Iterable[str]) -> dict[str, int]:
    """Return the number of devices of each cause that is a device group."""
    names = [cause.removeprefix("group:") for cause in causes if cause.startswith("group:")]
    groups = DeviceGroup.objects.filter(name__in=names).annotate(size=Count("devices")).values_list("name", "size")
    return {f"group:{name}": size for name, size in groups}


def _find_joinable(causes: set[str], now: datetime) -> dict[str, Incident]:
    """Return the newest incident of each cause that alerts may still join."""
    incidents = Incident.objects.filter(cause__in=causes, last_at__gte=now - JOIN_WINDOW).order_by("last_at", "pk")
    return {incident.cause: incident for incident in incidents}


def _open_incidents(unassigned: Sequence[Alert], causes: AlertCauses, now: datetime) -> list[Alert]:
    """Open incidents of causes that enough recent alerts share. Returns the alerts in them."""
    recent = list(
        Alert.objects.without_shadows()
        .filter(
            triggered_at__gte=now - JOIN_WINDOW - START_WINDOW,  # uses the index; excludes alerts of late data
            raised_at__gte=now - START_WINDOW,
            incident=None,
            retroactive=False,
        )
        .filter(_has_any_cause(unassigned, causes))
        .exclude(pk__in=[alert.pk for alert in unassigned])
        .select_related("rule")[:MAX_RECENT_ALERTS]
    )
    if len(unassigned) + len(recent) < MIN_INCIDENT_ALERTS:
        return []
    candidates = {alert.pk: alert for alert in [*unassigned, *recent]}
    candidate_causes = {pk: causes[pk] for pk in causes if pk in candidates} | find_causes(recent)
    assigned: list[Alert] = []
    for cause, members in group_by_cause(candidate_causes, MIN_INCIDENT_ALERTS):
        alerts = [candidates[pk] for pk in members]
        title = build_incident_title(alerts, cause)
        incident = Incident.objects.create(cause=cause, title=title, began_at=now, last_at=now)
        for alert in alerts:
            alert.incident = incident
        assigned += alerts
    return assigned


def _has_any_cause(alerts: Sequence[Alert], causes: AlertCauses) -> Q:
    """Build the filter for alerts that share a cause with one of these."""
    named = {cause.partition(":")[::2] for alert in alerts for cause in causes[alert.pk]}
    devices = Q(groups__name__in=[name for kind, name in named if kind == "group"])
    for tag in CAUSE_TAGS:
        devices |= Q(**{f"tags__{tag}__in": [name for kind, name in named if kind == tag]})
    rules = [alert.rule_id for alert in alerts]
    return Q(rule__in=rules) | Q(device__in=Device.objects.filter(devices).values("pk"))


def _save(assigned: Sequence[Alert], now: datetime) -> None:
    """Store the incidents of alerts, update the titles of incidents, and add events to the timelines."""
    members: defaultdict[int, list[Alert]] = defaultdict(list)
    incidents = {alert.incident.pk: alert.incident for alert in assigned if alert.incident is not None}
    for alert in assigned:
        assert alert.incident is not None
        members[alert.incident.pk].append(alert)
    for pk, incident in sorted(incidents.items()):
        rows = Alert.objects.filter(pk__in=[alert.pk for alert in members[pk]])
        rows.update(incident=incident)
        incident.last_at = now
        if incident.began_at != now and rows.exclude(Exists(_SAME_IN_INCIDENT)).exists():
            incident.title = describe_incident(incident.alerts.all(), incident.cause)
        incident.save()
    titles = {alert.pk: incidents[pk].title for pk, alerts in members.items() for alert in alerts}
    timeline.add_events(titles, EventKind.JOINED, timeline.NOTIFICATION_AUTHOR, now)
