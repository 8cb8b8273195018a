"""Past days of components: computed once per day by a task, with a summary that the page reads."""

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from django.db import connection, transaction
from django.db.models import Min, Q

from alerts.models import Alert, Rule
from alerts.models.rules import Mode
from dashboard.status_page.measurement import day_window, measure_window
from dashboard.status_page.models import (
    ComponentDay,
    ComponentGap,
    ComponentHistory,
    StateMode,
    StatusComponent,
    StatusPage,
)
from dashboard.status_page.timeline import FIGURES, Figures
from dashboard.status_page.tree import ComponentTree
from metrics.models import Device
from metrics.models.devices import DeviceQuerySet
from metrics.storage.units import SECOND, to_microseconds

BAR_DAYS = 90  # of the bars, today included
PERIODS = (90, 365)  # days of the totals, today included
KEPT_DAYS = max(PERIODS)
COMPUTED_AGAIN = 7  # days: late data may have opened alerts in them

# The devices that a component covers, of those that have sent data: when the last silent one was last seen, and whether
# one of them is not silent.
_SILENCE = """
SELECT c.id, max(s.last_seen), bool_or(s.device_id IS NULL)
FROM dashboard_statuscomponent c
JOIN metrics_device d ON d.tags @> c.tags AND (c.device_groups = '{}' OR EXISTS (
    SELECT FROM metrics_device_groups m JOIN metrics_devicegroup g ON g.id = m.devicegroup_id
    WHERE m.device_id = d.id AND g.name = ANY(c.device_groups)))
LEFT JOIN metrics_silentdevice s ON s.device_id = d.id
WHERE c.id = ANY(%s) AND EXISTS (SELECT FROM metrics_series WHERE device_id = d.id)
GROUP BY c.id
"""


def local_date(page: StatusPage, at: datetime) -> date:
    """Return the date in the time zone of a page."""
    return at.astimezone(ZoneInfo(page.time_zone)).date()


def refresh_history(page: StatusPage, now: datetime) -> bool:
    """Compute the missing past days of a page; return whether there were any."""
    tree = ComponentTree.of_page(page)
    _create_histories(tree.components.values())
    yesterday = local_date(page, now) - timedelta(days=1)
    due = [component for component in tree.components.values() if component.history.through != yesterday]
    if not due:
        return False
    update_coverage(tree.leaves())
    first = yesterday - timedelta(days=KEPT_DAYS - 1)
    known_through = min((component.history.through or date.min for component in due), default=date.min)
    measured = [leaf.history.measured_since for leaf in tree.leaves() if leaf.history.measured_since is not None]
    start = max(first, local_date(page, min(measured))) if measured else yesterday
    if known_through != date.min:
        start = max(start, known_through - timedelta(days=COMPUTED_AGAIN))
    with transaction.atomic():
        _store_days(page, tree, start, yesterday, to_microseconds(now))
        ComponentDay.objects.filter(component__in=tree.components, day__lt=first).delete()
        _store_summaries(page, tree.components.values(), yesterday)
    return True


def _create_histories(components: Iterable[StatusComponent]) -> None:
    missing = [component for component in components if not hasattr(component, "history")]
    if missing:
        ComponentHistory.objects.bulk_create(
            [ComponentHistory(component=component) for component in missing], ignore_conflicts=True
        )
        histories = ComponentHistory.objects.in_bulk([component.pk for component in missing], field_name="component_id")
        for component in missing:
            component.history = histories[component.pk]


def update_coverage(leaves: list[StatusComponent]) -> None:
    """Store since when each leaf is measured, and how many devices it covers."""
    _create_histories(leaves)
    for leaf in leaves:
        leaf.history.measured_since = _find_measured_since(leaf)
        leaf.history.device_count = covered_devices(leaf).count() if leaf.mode == StateMode.SHARE else 0
    ComponentHistory.objects.bulk_update([leaf.history for leaf in leaves], ["measured_since", "device_count"])


def covered_devices(leaf: StatusComponent) -> DeviceQuerySet:
    """Return the devices that a leaf covers by groups and tags."""
    devices = Device.objects.filter(tags__contains=leaf.tags) if leaf.tags else Device.objects.all()
    if leaf.device_groups:
        membership = Device.groups.through.objects.filter(devicegroup__name__in=leaf.device_groups)
        devices = devices.filter(pk__in=membership.values("device"))
    return devices


def _find_measured_since(leaf: StatusComponent) -> datetime | None:
    """Return when the first rule that may open alerts of a leaf existed, or its first alert was triggered."""
    rules = Rule.objects.filter(mode=Mode.LIVE)
    if leaf.rule_ids:
        rules = rules.filter(rule_id__in=leaf.rule_ids)
    elif leaf.device_groups:
        names = covered_devices(leaf).values_list("device_id", flat=True)
        named = Rule.objects.filter(mode=Mode.LIVE).exclude(device_ids=[])
        listed = {name for names_of_rule in named.values_list("device_ids", flat=True) for name in names_of_rule}
        devices = list(names.filter(device_id__in=listed))
        everywhere = Q(device_ids=[], device_groups=[])
        rules = rules.filter(everywhere | Q(device_groups__overlap=leaf.device_groups) | Q(device_ids__overlap=devices))
    alerts = Alert.objects.filter(shadow=False)
    if leaf.rule_ids:
        alerts = alerts.filter(rule__rule_id__in=leaf.rule_ids)
    if leaf.device_groups or leaf.tags:
        alerts = alerts.filter(device__in=covered_devices(leaf).values("pk"))
    times = [
        rules.aggregate(first=Min("created_at"))["first"],
        alerts.order_by().aggregate(first=Min("triggered_at"))["first"],
    ]
    return min((at for at in times if at is not None), default=None)


def _store_days(page: StatusPage, tree: ComponentTree, start: date, end: date, now: int) -> None:
    zone = ZoneInfo(page.time_zone)
    for number in range((end - start).days + 1):
        day = start + timedelta(days=number)
        measured = measure_window(page, tree, day_window(day, zone), now)
        rows = [ComponentDay(component_id=pk, day=day, **durations(found.figures)) for pk, found in measured.items()]
        ComponentDay.objects.bulk_create(
            rows, update_conflicts=True, unique_fields=["component", "day"], update_fields=list(FIGURES)
        )


def durations(figures: Figures) -> dict[str, timedelta]:
    return {name: timedelta(microseconds=getattr(figures, name)) for name in FIGURES}


def _figures(row: ComponentDay) -> Figures:
    return Figures(*(getattr(row, name) // timedelta(microseconds=1) for name in FIGURES))


def _store_summaries(page: StatusPage, components: Iterable[StatusComponent], through: date) -> None:
    """Store the bars of the last days and the totals, both without today. Days without a row are unknown."""
    zone = ZoneInfo(page.time_zone)
    lengths = {
        period: day_window(through, zone).end - day_window(through - timedelta(days=period - 2), zone).start
        for period in PERIODS
    }
    for component in components:
        rows = {row.day: _figures(row) for row in component.day_rows.all()}
        history = component.history
        history.days = [
            bar_of(rows[day]) if (day := through - timedelta(days=back)) in rows else None
            for back in reversed(range(BAR_DAYS - 1))
        ]
        history.totals = {
            str(period): [length, *(getattr(total, name) for name in FIGURES[1:])]
            for period, length in lengths.items()
            for total in [_sum(figures for day, figures in rows.items() if (through - day).days < period - 1)]
        }
        history.through = through
    ComponentHistory.objects.bulk_update(
        [component.history for component in components], ["days", "totals", "through"], batch_size=200
    )


def _sum(figures: Iterable[Figures]) -> Figures:
    return sum(figures, Figures())


def bar_of(figures: Figures) -> list[int] | None:
    """Return the seconds of a day that its bar shows: known, down, degraded, maintenance; None: nothing is known."""
    if not figures.known:
        return None
    seconds = (figures.known, figures.down, figures.degraded, figures.maintenance)
    return [-(-value // SECOND) for value in seconds]


def forget_history(page: StatusPage) -> None:
    """Delete the computed days of a page, after its components or its time zone have changed."""
    ComponentDay.objects.filter(component__page=page).delete()
    ComponentHistory.objects.filter(component__page=page).update(through=None, days=[], totals={})


def record_gaps(page: StatusPage, now: datetime) -> int:
    """Record the components whose devices all fell silent, and those with data again; return how many changed."""
    leaves = [leaf.pk for leaf in page.components.all() if leaf.device_groups or leaf.tags]
    if not leaves:
        return 0
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(_SILENCE, [leaves])
            silent = {pk: last_seen for pk, last_seen, has_data in cursor.fetchall() if not has_data}
        open_gaps = ComponentGap.objects.filter(component__in=leaves, ended_at=None)
        ended = open_gaps.exclude(component__in=silent).update(ended_at=now)
        known = set(open_gaps.values_list("component_id", flat=True))
        new = [ComponentGap(component_id=pk, began_at=at) for pk, at in silent.items() if pk not in known]
        ComponentGap.objects.bulk_create(new, ignore_conflicts=True)
        return ended + len(new)
