"""Alerts that are raised together and have one cause become an incident: a site or a gateway that fails is one thing.

A cause is something that devices share (a device group, the tags `gateway` and `site`), else the rule.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from django.db.models import Count, Exists, OuterRef, Q

from alerts import timeline
from alerts.models import WEIGHTS, Alert, EventKind, Incident, Kind
from metrics.models import NAME_LENGTH, Device, DeviceGroup

FEWEST: Final = 5
TOGETHER: Final = timedelta(minutes=2)
LASTS: Final = timedelta(minutes=5)  # after the last alert that joined it
MOST_RECENT: Final = 5000
TAGS: Final = ("gateway", "site")
BY: Final = "notifications"

# One of the same series in the same incident, which calls it the same: what flaps may join thousands of times.
_ALIKE: Final = Alert.objects.filter(
    rule=OuterRef("rule"),
    device=OuterRef("device"),
    metric_name=OuterRef("metric_name"),
    incident=OuterRef("incident"),
    rule_name=OuterRef("rule_name"),
    level=OuterRef("level"),
).exclude(pk=OuterRef("pk"))

Causes = dict[int, list[str]]  # of alerts, by primary key


def join(alerts: Sequence[Alert], now: datetime) -> None:
    """Put new alerts into the incidents that they belong to, with those of the last minutes that were none yet.

    The caller holds a transaction. Two evaluators at once may begin one incident each for one cause; what they tell
    goes together all the same, since messages are grouped by cause.
    """
    causes = causes_of(alerts)
    fresh = _fresh({cause for shared in causes.values() for cause in shared}, now)
    alone: list[Alert] = []
    for alert in alerts:
        cause = next((cause for cause in causes[alert.pk] if cause in fresh), None)
        alert.incident = fresh[cause] if cause else None
        if cause is None:
            alone.append(alert)
    joined = [alert for alert in alerts if alert.incident is not None]
    if alone:
        joined += _begin(alone, causes, now)
    _keep(joined, now)


def causes_of(alerts: Iterable[Alert]) -> Causes:
    """What alerts may have in common with others: groups and tags of devices, then rules (which were loaded)."""
    alerts = list(alerts)
    devices = {alert.device_id for alert in alerts if alert.device_id is not None}
    shared: defaultdict[int, list[str]] = defaultdict(list)
    membership = Device.groups.through.objects.filter(device_id__in=devices).order_by("devicegroup__name")
    for device, group in membership.values_list("device_id", "devicegroup__name"):
        shared[device].append(f"group:{group}")
    tagged = Device.objects.filter(pk__in=devices, tags__has_any_keys=TAGS).values_list("pk", "tags")
    for device, tags in tagged:
        shared[device] += [f"{tag}:{tags[tag]}"[:NAME_LENGTH] for tag in TAGS if tag in tags]
    return {
        alert.pk: [
            *shared.get(alert.device_id or 0, ()),
            f"rule:{alert.rule.rule_id if alert.rule else alert.rule_name}",
        ]
        for alert in alerts
    }


def common(causes: Causes, fewest: int) -> list[tuple[str, list[int]]]:
    """Causes that enough alerts share, each with those that are its own: what fails whole before what fails in part.

    Rules come last: that a device group fails says more than that one rule found it.
    """
    left = dict(causes)
    found: list[tuple[str, list[int]]] = []
    sizes = _sizes(cause for cause, count in _counted(left).items() if count >= fewest)
    while True:
        counts = {cause: count for cause, count in _counted(left).items() if count >= fewest}
        if not counts:
            return found

        def first(cause: str) -> tuple[bool, bool, int, str]:
            size = sizes.get(cause, 0)
            return cause.startswith("rule:"), 2 * counts[cause] < size, -counts[cause], cause  # noqa: B023

        best = min(counts, key=first)
        members = [pk for pk, shared in left.items() if best in shared]
        found.append((best, members))
        for pk in members:
            del left[pk]


def title_of(alerts: Sequence[Alert], cause: str, devices: int | None = None) -> str:
    """Such as "12 devices of site a: no data"; of several rules, the one of the worst alerts is named."""
    worst = min(alerts, key=lambda alert: -WEIGHTS[alert.level])
    count = devices if devices is not None else len({alert.device_name for alert in alerts})
    kind, _, name = cause.partition(":")
    where = "" if kind == "rule" else f" of {name}"
    what = "no data" if worst.rule is not None and worst.rule.kind == Kind.ABSENCE else worst.rule_name
    more = " and more" if len({alert.rule_name for alert in alerts}) > 1 else ""
    return f"{count} {'device' if count == 1 else 'devices'}{where}: {what}{more}"[: 2 * NAME_LENGTH]


def _counted(causes: Causes) -> Counter[str]:
    return Counter(cause for shared in causes.values() for cause in shared)


def _sizes(causes: Iterable[str]) -> dict[str, int]:
    """How many devices are in groups."""
    names = [cause.removeprefix("group:") for cause in causes if cause.startswith("group:")]
    sized = DeviceGroup.objects.filter(name__in=names).annotate(size=Count("devices")).values_list("name", "size")
    return {f"group:{name}": size for name, size in sized}


def _fresh(causes: set[str], now: datetime) -> dict[str, Incident]:
    """The newest incident of each cause that still gathers alerts."""
    found = Incident.objects.filter(cause__in=causes, last_at__gte=now - LASTS).order_by("last_at", "pk")
    return {incident.cause: incident for incident in found}


def _begin(alone: Sequence[Alert], causes: Causes, now: datetime) -> list[Alert]:
    """Make incidents where enough alerts of these minutes share a cause; returns those that are in one now."""
    recent = list(
        Alert.objects.real()
        .filter(
            triggered_at__gte=now - LASTS - TOGETHER,  # which is indexed; what was measured before came late
            raised_at__gte=now - TOGETHER,
            incident=None,
            retroactive=False,
        )
        .filter(_shares(alone, causes))
        .exclude(pk__in=[alert.pk for alert in alone])
        .select_related("rule")[:MOST_RECENT]
    )
    if len(alone) + len(recent) < FEWEST:
        return []
    among = {alert.pk: alert for alert in [*alone, *recent]}
    joined: list[Alert] = []
    for cause, members in common({pk: causes[pk] for pk in causes if pk in among} | causes_of(recent), FEWEST):
        alerts = [among[pk] for pk in members]
        incident = Incident.objects.create(cause=cause, title=title_of(alerts, cause), began_at=now, last_at=now)
        for alert in alerts:
            alert.incident = incident
        joined += alerts
    return joined


def _shares(alerts: Sequence[Alert], causes: Causes) -> Q:
    """Those that have a cause in common with one of these."""
    named = {cause.partition(":")[::2] for alert in alerts for cause in causes[alert.pk]}
    devices = Q(groups__name__in=[name for kind, name in named if kind == "group"])
    for tag in TAGS:
        devices |= Q(**{f"tags__{tag}__in": [name for kind, name in named if kind == tag]})
    rules = [alert.rule_id for alert in alerts]
    return Q(rule__in=rules) | Q(device__in=Device.objects.filter(devices).values("pk"))


def _keep(joined: Sequence[Alert], now: datetime) -> None:
    """Write down who joined what, and what incidents are called from now on."""
    members: defaultdict[int, list[Alert]] = defaultdict(list)
    incidents = {alert.incident.pk: alert.incident for alert in joined if alert.incident is not None}
    for alert in joined:
        assert alert.incident is not None
        members[alert.incident.pk].append(alert)
    for pk, incident in sorted(incidents.items()):
        those = Alert.objects.filter(pk__in=[alert.pk for alert in members[pk]])
        those.update(incident=incident)
        incident.last_at = now
        if incident.began_at != now and those.exclude(Exists(_ALIKE)).exists():
            incident.title = _retitled(incident)
        incident.save()
    titles = {alert.pk: incidents[pk].title for pk, alerts in members.items() for alert in alerts}
    timeline.tell(titles, EventKind.JOINED, BY, now)


def _retitled(incident: Incident) -> str:
    """By all its alerts, of which one for each rule and level is enough to say what they are."""
    kinds = incident.alerts.order_by("rule_name", "level").distinct("rule_name", "level").select_related("rule")
    devices = incident.alerts.aggregate(count=Count("device_name", distinct=True))["count"]
    return title_of(list(kinds), incident.cause, devices)
