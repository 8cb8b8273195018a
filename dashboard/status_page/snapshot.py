"""Everything that is public of a page at one time. Answers are made from it alone, so nothing else can become public.

It holds names, texts and IDs that people wrote for the page, states and durations: never a device, a rule, a group, a
tag or a value.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import Prefetch, Q

from dashboard.status_page.history import BAR_DAYS, PERIODS, bar_of, local_date
from dashboard.status_page.measurement import Measured, day_window, measure_window
from dashboard.status_page.models import (
    ENDED,
    ComponentHistory,
    Impact,
    IncidentKind,
    StatusComponent,
    StatusIncident,
    StatusPage,
    StatusUpdate,
)
from dashboard.status_page.timeline import Figures, Interval, State
from dashboard.status_page.tree import ComponentTree, share_limits
from metrics.storage.units import to_microseconds

RECENT = timedelta(days=14)  # of the incidents that the page shows
MAX_INCIDENTS = 50  # of each kind, as in Statuspage
MAX_BARS = 100  # components; of larger pages only top components and those with a fault have bars
MAX_LIVE_DAYS = 7  # days that are computed with the page, while the task has not stored them


class PublicState(StrEnum):
    """State of a component as the page shows it, the better the earlier."""

    OPERATIONAL = "operational"
    UNDER_MAINTENANCE = "under_maintenance"
    UNKNOWN = "unknown"
    DEGRADED = "degraded_performance"
    PARTIAL_OUTAGE = "partial_outage"
    MAJOR_OUTAGE = "major_outage"

    @property
    def rank(self) -> int:
        return _RANKS[self]

    @property
    def label(self) -> str:
        return _LABELS[self]


_RANKS = {state: rank for rank, state in enumerate(PublicState)}
_LABELS = {
    PublicState.OPERATIONAL: "Operational",
    PublicState.UNDER_MAINTENANCE: "Under maintenance",
    PublicState.UNKNOWN: "No data",
    PublicState.DEGRADED: "Degraded performance",
    PublicState.PARTIAL_OUTAGE: "Partial outage",
    PublicState.MAJOR_OUTAGE: "Major outage",
}
_OF_STATE = {
    State.UNKNOWN: PublicState.UNKNOWN,
    State.OPERATIONAL: PublicState.OPERATIONAL,
    State.DEGRADED: PublicState.DEGRADED,
    State.PARTIAL_OUTAGE: PublicState.PARTIAL_OUTAGE,
    State.MAJOR_OUTAGE: PublicState.MAJOR_OUTAGE,
}
_OF_IMPACT = {
    Impact.MINOR: PublicState.DEGRADED,
    Impact.MAJOR: PublicState.PARTIAL_OUTAGE,
    Impact.CRITICAL: PublicState.MAJOR_OUTAGE,
}


@dataclass(frozen=True, slots=True)
class PublicComponent:
    """A component. `periods` has the figures by number of days.

    bars  one entry per day, oldest first; None: not shown
    """

    id: str
    name: str
    description: str
    state: PublicState
    depth: int
    parent_id: str | None
    child_ids: tuple[str, ...]
    is_group: bool
    position: int
    measured_since: datetime | None
    created_at: datetime
    updated_at: datetime
    bars: Sequence[Sequence[int] | None] | None
    periods: dict[int, Figures]


@dataclass(frozen=True, slots=True)
class PublicUpdate:
    id: str
    status: str
    text: str
    at: datetime


@dataclass(frozen=True, slots=True)
class PublicIncident:
    """An incident or a maintenance, its updates newest first."""

    id: str
    kind: str
    title: str
    status: str
    impact: str
    starts_at: datetime
    ends_at: datetime | None
    closed_at: datetime | None
    created_at: datetime
    updated_at: datetime
    updates: tuple[PublicUpdate, ...]
    component_ids: tuple[str, ...]
    component_names: tuple[str, ...]

    @property
    def is_open(self) -> bool:
        return self.status not in ENDED

    @property
    def status_label(self) -> str:
        return self.status.replace("_", " ").capitalize()

    @property
    def is_maintenance(self) -> bool:
        return self.kind == IncidentKind.MAINTENANCE

    @property
    def state(self) -> PublicState:
        """The state whose colour the incident has."""
        if self.is_maintenance:
            return PublicState.UNDER_MAINTENANCE
        return _OF_IMPACT.get(Impact(self.impact), PublicState.OPERATIONAL)


@dataclass(frozen=True, slots=True)
class PageSnapshot:
    """The public content of a page at `computed_at`."""

    id: str
    slug: str
    host_name: str | None
    title: str
    text: str
    published: bool
    zone: ZoneInfo
    created_at: datetime
    updated_at: datetime
    computed_at: datetime
    components: tuple[PublicComponent, ...] = ()
    incidents: tuple[PublicIncident, ...] = ()
    maintenances: tuple[PublicIncident, ...] = ()
    component_by_id: dict[str, PublicComponent] = field(default_factory=dict)

    @property
    def open_incidents(self) -> list[PublicIncident]:
        return [incident for incident in self.incidents if incident.is_open]

    @property
    def past_incidents(self) -> list[PublicIncident]:
        """Incidents and maintenance of the last days that have ended, the newest first."""
        since = self.computed_at - RECENT
        ended = [item for item in (*self.incidents, *self.maintenances) if not item.is_open and item.starts_at >= since]
        return sorted(ended, key=lambda item: item.starts_at, reverse=True)

    @property
    def upcoming_maintenances(self) -> list[PublicIncident]:
        return [item for item in self.maintenances if item.is_open and item.starts_at > self.computed_at]

    @property
    def active_maintenances(self) -> list[PublicIncident]:
        return [item for item in self.maintenances if item.is_open and item.starts_at <= self.computed_at]

    @property
    def top_components(self) -> list[PublicComponent]:
        return [component for component in self.components if component.depth == 0]

    @property
    def state(self) -> PublicState:
        """The state of the whole page: a major outage only where it concerns half of the top components or more."""
        top = [component.state for component in self.top_components]
        declared = [incident.state for incident in self.open_incidents if not incident.component_ids]
        worst = max([*top, *declared], key=lambda state: state.rank, default=PublicState.OPERATIONAL)
        major = sum(state == PublicState.MAJOR_OUTAGE for state in top)
        if worst == PublicState.MAJOR_OUTAGE and worst not in declared and major * 2 < len(top):
            return PublicState.PARTIAL_OUTAGE
        return worst

    @property
    def headline(self) -> str:
        return "All systems operational" if self.state == PublicState.OPERATIONAL else self.state.label

    @property
    def affected(self) -> list[str]:
        """Names of the top components that are not operational."""
        return [item.name for item in self.top_components if item.state != PublicState.OPERATIONAL]


def build_snapshot(page: StatusPage, now: datetime) -> PageSnapshot:
    """Read the public content of a page."""
    tree = ComponentTree.of_page(page)
    incidents = _read_incidents(page, IncidentKind.INCIDENT)
    maintenances = _read_incidents(page, IncidentKind.MAINTENANCE)
    components = tuple(_components(page, tree, [*incidents, *maintenances], now))
    return PageSnapshot(
        id=page.page_id,
        slug=page.slug,
        host_name=page.host_name,
        title=page.title,
        text=page.text,
        published=page.published,
        zone=ZoneInfo(page.time_zone),
        created_at=page.created_at,
        updated_at=max([page.updated_at, *(item.updated_at for item in (*incidents, *maintenances))]),
        computed_at=now,
        components=components,
        incidents=incidents,
        maintenances=maintenances,
        component_by_id={component.id: component for component in components},
    )


def _components(
    page: StatusPage, tree: ComponentTree, incidents: list[PublicIncident], now: datetime
) -> Iterable[PublicComponent]:
    days = _measure_days(page, tree, now)
    states = _find_states(tree, days[-1], incidents, now)
    stored_bars = _read_bars(tree, states)
    for component, depth in tree.walk():
        parent = tree.components.get(component.parent_id) if component.parent_id is not None else None
        history = getattr(component, "history", None)
        figures = [day[component.pk].figures for day in days]
        bars = None
        if component.pk in stored_bars:
            bars = [*([None] * BAR_DAYS), *stored_bars[component.pk], *(bar_of(day) for day in figures)][-BAR_DAYS:]
        totals = history.totals if history else {}
        today = sum(figures[1:], figures[0])
        yield PublicComponent(
            id=component.component_id,
            name=component.name,
            description=component.description,
            state=states[component.pk],
            depth=depth,
            parent_id=parent.component_id if parent else None,
            child_ids=tuple(child.component_id for child in tree.children.get(component.pk, ())),
            is_group=tree.is_group(component),
            position=component.position,
            measured_since=history.measured_since if history else None,
            created_at=component.created_at,
            updated_at=component.updated_at,
            bars=bars,
            periods={
                period: today + Figures(*totals[str(period)]) if str(period) in totals else today for period in PERIODS
            },
        )


def _read_bars(tree: ComponentTree, states: dict[int, PublicState]) -> dict[int, list[Any]]:
    """Return the stored days of the components whose bars the page shows."""
    shown = [
        component.pk
        for component in tree.components.values()
        if len(tree.components) <= MAX_BARS
        or component.parent_id is None
        or (component.is_leaf and states[component.pk] != PublicState.OPERATIONAL)
    ]
    rows = ComponentHistory.objects.filter(component__in=shown).values_list("component_id", "days")
    return {pk: [] for pk in shown} | dict(rows)


def _measure_days(page: StatusPage, tree: ComponentTree, now: datetime) -> list[dict[int, Measured]]:
    """Measure today until now, after the days that the task has not stored yet."""
    today, at = local_date(page, now), to_microseconds(now)
    stored = [component.history.through for component in tree.components.values() if hasattr(component, "history")]
    through = min((day for day in stored if day is not None), default=today - timedelta(days=1))
    first = max(min(through + timedelta(days=1), today), today - timedelta(days=MAX_LIVE_DAYS - 1))
    zone = ZoneInfo(page.time_zone)
    windows = [day_window(first + timedelta(days=number), zone) for number in range((today - first).days + 1)]
    windows[-1] = Interval(windows[-1].start, at)
    return [measure_window(page, tree, window, at) for window in windows]


def _find_states(
    tree: ComponentTree, today: dict[int, Measured], incidents: list[PublicIncident], now: datetime
) -> dict[int, PublicState]:
    """Return the state of each component: measured, declared by an open incident, or under maintenance."""
    declared: dict[str, PublicState] = {}
    in_maintenance: set[str] = set()
    for incident in incidents:
        if not incident.is_open or incident.starts_at > now:
            continue
        for component_id in incident.component_ids:
            if incident.is_maintenance:
                in_maintenance.add(component_id)
            else:
                states = (declared.get(component_id, PublicState.OPERATIONAL), incident.state)
                declared[component_id] = max(states, key=lambda state: state.rank)
    found: dict[int, PublicState] = {}

    def visit(component: StatusComponent, maintained: bool) -> PublicState:
        maintained = maintained or component.component_id in in_maintenance
        children = [visit(child, maintained) for child in tree.children.get(component.pk, ())]
        if maintained:
            state = PublicState.UNDER_MAINTENANCE
        elif component.is_leaf:
            state = _OF_STATE[today[component.pk].state]
        else:
            state = _state_of_group(component, children)
        claimed = declared.get(component.component_id, PublicState.OPERATIONAL)
        found[component.pk] = max(state, claimed, key=lambda one: one.rank)
        return found[component.pk]

    for component in tree.children.get(None, ()):
        visit(component, False)
    return found


def _state_of_group(component: StatusComponent, children: list[PublicState]) -> PublicState:
    limits = share_limits(component)
    if limits is None:
        return max(children, key=lambda state: state.rank, default=PublicState.UNKNOWN)
    affected = sum(state.rank >= PublicState.DEGRADED.rank for state in children)
    known = sum(state != PublicState.UNKNOWN for state in children)
    if affected:
        return _OF_STATE[limits.state(affected, known)]
    return min(children, key=lambda state: state.rank, default=PublicState.UNKNOWN)


def _read_incidents(page: StatusPage, kind: IncidentKind) -> tuple[PublicIncident, ...]:
    """Return the open incidents and the last ones that have ended, the newest first."""
    rows = page.incidents.filter(kind=kind).prefetch_related(
        Prefetch("updates", StatusUpdate.objects.order_by("-at", "-id")),
        Prefetch("components", StatusComponent.objects.only("component_id", "name", "position")),
    )
    still_open = rows.filter(~Q(status__in=ENDED))[:MAX_INCIDENTS]
    ended = rows.filter(status__in=ENDED)[:MAX_INCIDENTS]
    return public_incidents(sorted([*still_open, *ended], key=lambda row: row.starts_at, reverse=True))


def public_incidents(rows: Iterable[StatusIncident]) -> tuple[PublicIncident, ...]:
    """Return the public content of incidents, whose updates and components are prefetched."""
    return tuple(_public_incident(row) for row in rows)


def _public_incident(row: StatusIncident) -> PublicIncident:
    updates, components = row.updates.all(), row.components.all()
    return PublicIncident(
        id=row.incident_id,
        kind=row.kind,
        title=row.title,
        status=row.status,
        impact=row.impact,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        closed_at=row.closed_at,
        created_at=row.created_at,
        updated_at=row.updated_at,
        updates=tuple(PublicUpdate(update.update_id, update.status, update.text, update.at) for update in updates),
        component_ids=tuple(component.component_id for component in components),
        component_names=tuple(component.name for component in components),
    )
