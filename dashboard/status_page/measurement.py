"""Timelines and figures of the components of a page, from the stored alerts, maintenance and gaps."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from django.db.models import Q

from alerts.models import Alert
from alerts.models.alerts import OPEN_STATUSES
from dashboard.status_page.models import (
    ComponentGap,
    IncidentKind,
    StatusComponent,
    StatusIncident,
    StatusPage,
)
from dashboard.status_page.timeline import (
    LEVEL_STATES,
    AlertSpan,
    Figures,
    Interval,
    State,
    Timeline,
    clip,
    group_timeline,
    leaf_timeline,
    mark_unknown,
    measure,
)
from dashboard.status_page.tree import ComponentTree, share_limits
from metrics.models import Device
from metrics.storage.units import to_datetime, to_microseconds

READ_AT_ONCE = 2_000  # alerts


class Measured(NamedTuple):
    """Timelines of a component in a window; in `clear`, the time of maintenance is unknown."""

    raw: Timeline
    clear: Timeline
    maintenance: list[Interval]

    @property
    def figures(self) -> Figures:
        return measure(self.raw, self.clear, self.maintenance)

    @property
    def state(self) -> State:
        """The state at the end of the window."""
        return self.raw[-1].state if self.raw else State.UNKNOWN


@dataclass(frozen=True, slots=True)
class MeasuredAlert:
    """An alert as components match it."""

    span: AlertSpan
    rule_id: str


def day_window(day: date, zone: ZoneInfo) -> Interval:
    """Return the window of a local day, which may have 23 or 25 hours."""
    start, end = (datetime.combine(at, time(), zone) for at in (day, day + timedelta(days=1)))
    return Interval(to_microseconds(start), to_microseconds(end))


def measure_window(page: StatusPage, tree: ComponentTree, window: Interval, now: int) -> dict[int, Measured]:
    """Return what is known of each component, by primary key, in a window; open alerts last until now."""
    leaves = tree.leaves()
    spans = _match_alerts(leaves, window, now)
    gaps = _read_gaps(leaves, window, now)
    maintenance = _read_maintenance(page, window)
    measured: dict[int, Measured] = {}

    def visit(component: StatusComponent) -> Measured:
        limits = share_limits(component)
        keys = tree.with_ancestors(component) if maintenance else ()
        own = [part for pk in keys for part in maintenance.get(pk, ())]
        if component.is_leaf:
            history = getattr(component, "history", None)
            devices = history.device_count if history else 0
            unknown = [*gaps.get(component.pk, ()), *_unmeasured(component, window)]
            raw = mark_unknown(leaf_timeline(spans.get(component.pk, ()), window, limits, devices), unknown)
            clear = mark_unknown(raw, own, only_operational=False)
        else:
            children = [visit(child) for child in tree.children.get(component.pk, ())]
            raw = group_timeline([child.raw for child in children], window, limits)
            clear = group_timeline([child.clear for child in children], window, limits)
        measured[component.pk] = Measured(raw, clear, own)
        return measured[component.pk]

    for component in tree.children.get(None, ()):
        visit(component)
    return measured


def _unmeasured(component: StatusComponent, window: Interval) -> list[Interval]:
    """Return the part of a window before the component was measured."""
    history = getattr(component, "history", None)
    if history is None or history.measured_since is None:
        return [window]
    return clip([Interval(window.start, to_microseconds(history.measured_since))], window)


def _match_alerts(leaves: list[StatusComponent], window: Interval, now: int) -> dict[int, list[AlertSpan]]:
    """Return the alerts of each leaf that were open in a window."""
    matcher = AlertMatcher(leaves)
    matched: dict[int, list[AlertSpan]] = {}
    for batch in _read_alerts(leaves, window, now):
        for component, span in matcher.match(batch):
            matched.setdefault(component, []).append(span)
    return matched


def _read_alerts(leaves: list[StatusComponent], window: Interval, now: int) -> Iterable[list[MeasuredAlert]]:
    """Yield the alerts that were open in a window, those that only leaves without devices and rules exclude too."""
    start, end = (to_datetime(at) for at in window)
    alerts = Alert.objects.filter(
        Q(status__in=OPEN_STATUSES) | Q(resolved_at__gt=start),
        shadow=False,
        level__in=list(LEVEL_STATES),
        triggered_at__lt=end,
    )
    if all(leaf.device_groups or leaf.rule_ids for leaf in leaves):
        groups = {name for leaf in leaves if not leaf.rule_ids for name in leaf.device_groups}
        rules = {rule_id for leaf in leaves for rule_id in leaf.rule_ids}
        membership = Device.groups.through.objects.filter(devicegroup__name__in=groups)
        alerts = alerts.filter(Q(rule__rule_id__in=rules) | Q(device__in=membership.values("device")))
    fields = ("device_id", "rule__rule_id", "level", "triggered_at", "resolved_at")
    batch: list[MeasuredAlert] = []
    for device, rule_id, level, began, resolved in alerts.order_by().values_list(*fields).iterator(READ_AT_ONCE):
        until = now if resolved is None else to_microseconds(resolved)
        [*part] = clip([Interval(to_microseconds(began), min(until, now))], window)
        batch += [MeasuredAlert(AlertSpan(*span, LEVEL_STATES[level], device), rule_id or "") for span in part]
        if len(batch) >= READ_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


class AlertMatcher:
    """Finds the leaves whose lists an alert matches."""

    def __init__(self, leaves: Iterable[StatusComponent]) -> None:
        self.by_rule: dict[str, list[StatusComponent]] = {}
        self.by_group: dict[str, list[StatusComponent]] = {}
        self.by_tags: list[StatusComponent] = []
        self.groups: set[str] = set()
        self.has_tags = False
        for leaf in leaves:
            self.groups.update(leaf.device_groups)
            self.has_tags |= bool(leaf.tags)
            if leaf.rule_ids:
                for rule_id in leaf.rule_ids:
                    self.by_rule.setdefault(rule_id, []).append(leaf)
            elif leaf.device_groups:
                for group in leaf.device_groups:
                    self.by_group.setdefault(group, []).append(leaf)
            else:
                self.by_tags.append(leaf)

    def match(self, alerts: list[MeasuredAlert]) -> Iterable[tuple[int, AlertSpan]]:
        """Yield the primary key of each matching leaf with the alert."""
        devices = {alert.span.device for alert in alerts if alert.span.device is not None}
        groups, tags = self._read_groups(devices), self._read_tags(devices)
        for alert in alerts:
            device = alert.span.device
            of_device = groups.get(device, frozenset()) if device is not None else frozenset[str]()
            candidates = {leaf.pk: leaf for leaf in self.by_rule.get(alert.rule_id, ())}
            candidates |= {leaf.pk: leaf for group in of_device for leaf in self.by_group.get(group, ())}
            candidates |= {leaf.pk: leaf for leaf in self.by_tags}
            for leaf in candidates.values():
                if leaf.device_groups and of_device.isdisjoint(leaf.device_groups):
                    continue
                of_tags = tags.get(device, {}) if leaf.tags else {}
                if any(of_tags.get(name) != value for name, value in leaf.tags.items()):
                    continue
                yield leaf.pk, alert.span

    def _read_groups(self, devices: set[int]) -> Mapping[int, frozenset[str]]:
        if not self.groups or not devices:
            return {}
        membership = Device.groups.through.objects.filter(device__in=devices, devicegroup__name__in=self.groups)
        groups: dict[int, set[str]] = {}
        for device, name in membership.values_list("device_id", "devicegroup__name"):
            groups.setdefault(device, set()).add(name)
        return {device: frozenset(names) for device, names in groups.items()}

    def _read_tags(self, devices: set[int]) -> dict[int | None, dict[str, str]]:
        if not self.has_tags or not devices:
            return {}
        return dict(Device.objects.filter(pk__in=devices).values_list("pk", "tags"))


def _read_gaps(leaves: list[StatusComponent], window: Interval, now: int) -> dict[int, list[Interval]]:
    start, end = (to_datetime(at) for at in window)
    rows = ComponentGap.objects.filter(
        Q(ended_at=None) | Q(ended_at__gt=start), component__in=leaves, began_at__lt=end
    ).values_list("component_id", "began_at", "ended_at")
    gaps: dict[int, list[Interval]] = {}
    for component, began, ended in rows:
        gap = Interval(to_microseconds(began), now if ended is None else to_microseconds(ended))
        gaps.setdefault(component, []).extend(clip([gap], window))
    return gaps


def _read_maintenance(page: StatusPage, window: Interval) -> dict[int, list[Interval]]:
    """Return the times of maintenance by component that the maintenance names."""
    start, end = (to_datetime(at) for at in window)
    planned = StatusIncident.objects.filter(page=page, kind=IncidentKind.MAINTENANCE, starts_at__lt=end)
    planned = planned.filter(Q(closed_at=None) | Q(closed_at__gt=start), ends_at__gt=start)
    rows = planned.order_by().values_list("components", "starts_at", "ends_at", "closed_at")
    maintenance: dict[int, list[Interval]] = {}
    for component, starts_at, ends_at, closed_at in rows:
        if component is not None and ends_at is not None:
            until = ends_at if closed_at is None else min(ends_at, closed_at)
            times = Interval(to_microseconds(starts_at), to_microseconds(until))
            maintenance.setdefault(component, []).extend(clip([times], window))
    return maintenance
