"""The inbox of alerts: what needs someone, what somebody has, what is over; and the verbs on what is chosen."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from alerts.models import OPEN_STATUSES, Alert, Level, Rule, Status
from alerts.models.alerts import AlertQuerySet
from dashboard.alert_filters import AGES, VIEWS, Filters
from dashboard.alert_rows import (
    AlertRow,
    children,
    heads,
    person,
    rows_of,
    units_of,
    with_children,
    worst_first,
)
from dashboard.open_alert_counts import Tally
from dashboard.sparklines import LINES, courses_of
from metrics.models import DeviceGroup
from rest.caller import Caller, Scope, caller_of

PAGE = 50
RESOLVED_SHOWN = 10  # below those that are open
RECENTLY = timedelta(days=1)
FARTHEST = 10_000
COUNTED = 1000  # counting stops here
OFFERED = 200  # groups and owners to choose from
SHOWN_AT_ONCE = 200
TITLES = {
    Status.ACTIVE: "Need someone",
    Status.ACKNOWLEDGED: "Somebody has them",
    Status.RESOLVED: "Recently resolved",
}


@dataclass(frozen=True, slots=True)
class Section:
    """Alerts of one status, the worst first; those that are over, the newest first."""

    status: Status
    rows: list[AlertRow]
    number: int
    start: int
    more: bool

    @property
    def title(self) -> str:
        return TITLES[self.status]

    @property
    def counted(self) -> str:
        return f"{COUNTED:,} and more" if self.number == COUNTED else f"{self.number:,}"

    @property
    def next(self) -> int:
        return self.start + len(self.rows)


def _sections(found: AlertQuerySet, asked: Filters, start: int, now: datetime) -> list[Section]:
    """One page of what was asked for; for triage the beginning of each status, and of what is over the last day's."""
    alone = len(asked.statuses) == 1
    recent = found.filter(resolved_at__gt=now - RECENTLY, triggered_at__gt=now - 7 * RECENTLY)
    parts: list[tuple[Status, AlertQuerySet, list[Alert], list[Alert], bool]] = []
    for status in asked.statuses:
        of_status = (recent if status == Status.RESOLVED and not alone else found).filter(status=status)
        size = PAGE if alone or status != Status.RESOLVED else RESOLVED_SHOWN
        some = _heads(of_status, status, start if alone else 0, size + 1)
        parts.append((status, of_status, some[:size], children(some[:size], of_status), len(some) > size))
    unit_of = units_of([alert for _, _, some, below, _ in parts for alert in (*some, *below)])
    return [
        Section(
            status,
            with_children(some, below, unit_of, now),
            of_status[:COUNTED].count(),
            start if alone else 0,
            more,
        )
        for status, of_status, some, below, more in parts
    ]


def _heads(of_status: AlertQuerySet, status: Status, start: int, number: int) -> list[Alert]:
    """What is open the worst first, what is over the newest first; of an incident one."""
    shown = heads(of_status)
    if status != Status.RESOLVED:
        return worst_first(shown, start, number)
    newest = shown.select_related("incident", "device", "rule").order_by("-triggered_at", "-id")
    return list(newest[start : start + number])


@login_required
@require_safe
def alert_list(request: HttpRequest) -> HttpResponse:
    """`?view=` is one status, or mine, or all of them for triage; the other words narrow it down."""
    caller, now = caller_of(request.user), timezone.now()
    asked = Filters.of(request.GET)
    visible = Alert.objects.visible_to(caller).without_shadows()
    sections = _sections(asked.narrow(visible, caller.name, now), asked, _start(request), now)
    owners = visible.filter(status=Status.ACKNOWLEDGED).order_by("owner").values_list("owner", flat=True).distinct()
    context = {
        "sections": sections,
        "empty": not any(section.rows for section in sections),
        "asked": asked,
        "views": [(key, words, asked.but(key)) for key, words in VIEWS],
        "levels": [(level, Level(level).label) for level in reversed(Level.values)],
        "groups": DeviceGroup.objects.visible_to(caller).order_by("name").values_list("name", flat=True)[:OFFERED],
        "owners": [(name, person(name)) for name in owners[:OFFERED] if name and name != caller.name],
        "ages": AGES,
        "rule": Rule.objects.filter(rule_id=asked.rule).first() if asked.rule else None,
        "newest": visible.order_by("-pk").values_list("pk", flat=True).first() or 0,
        "operates": caller.may(Scope.OPERATE),
        "administers": caller.may(Scope.ADMIN),
        "me": caller.name,
    }
    return render(request, "dashboard/alerts/alerts.html", context)


@login_required
@require_safe
def news(request: HttpRequest) -> JsonResponse:
    """What became of the alerts that a page shows (`shown`), and how many it does not show since (`newer`)."""
    caller, now = caller_of(request.user), timezone.now()
    visible = Alert.objects.visible_to(caller).without_shadows()
    given = request.GET.get("since", "")
    since = int(given) if given.isascii() and given.isdigit() and len(given) < 19 else 0
    newer = Filters.of(request.GET).narrow(visible, caller.name, now).filter(pk__gt=since, status__in=OPEN_STATUSES)
    shown = request.GET.get("shown", "").replace("\0", "").split(",")[:SHOWN_AT_ONCE]
    known = visible.filter(alert_id__in=shown).values_list("alert_id", "status", "owner")
    return JsonResponse(
        {
            "newer": newer[:COUNTED].count(),
            "waiting": str(Tally.of(caller).waiting),
            "alerts": {alert_id: {"status": status, "owner": person(owner)} for alert_id, status, owner in known},
        }
    )


@login_required
@require_safe
def courses(request: HttpRequest) -> JsonResponse:
    """The lines in the rows that a page shows: asked for once it stands, since they cost more than the list."""
    visible = Alert.objects.visible_to(caller_of(request.user)).without_shadows()
    shown = request.GET.get("shown", "").replace("\0", "").split(",")[:LINES]
    known = visible.filter(alert_id__in=shown).select_related("device", "rule")
    return JsonResponse(courses_of(list(known), timezone.now()))


def open_rows(caller: Caller, number: int, device_id: str | None = None) -> list[AlertRow]:
    """The worst open alerts, of all devices or of one: for the pages that show them beside other things."""
    found = Alert.objects.visible_to(caller).without_shadows().open()
    if device_id is not None:
        found = found.filter(device_name=device_id)
    return rows_of(worst_first(found, 0, number), timezone.now())


def _start(request: HttpRequest) -> int:
    given = request.GET.get("from", "0")
    return min(int(given), FARTHEST) if given.isascii() and given.isdigit() and len(given) < 10 else 0
