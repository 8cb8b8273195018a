"""The inbox of alerts, and the updates that its page asks for."""

from datetime import timedelta
from typing import Any

from django.db.models import Exists, OuterRef
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from alerts.models import OPEN_STATUSES, Alert, Level, Status
from alerts.models.alerts import AlertQuerySet
from alerts.silenced_alerts import covering_silences
from alerts.visibility import visible_rules
from dashboard.alert_rows import (
    AlertRow,
    cover_text,
    display_name,
    incident_alerts,
    incident_heads,
    open_incidents,
    rows_of,
    units_of,
    with_children,
    worst_first,
)
from dashboard.forms.fields import MAX_CHOICES, names_of
from dashboard.inbox_filters import AGES, VIEWS, InboxFilters
from dashboard.open_alert_counts import BoundedCount, OpenAlertCounts
from dashboard.pagination import PAGE_SIZE, ListPage, offset_of, page_of, to_int
from dashboard.sparklines import MAX_SPARKLINES, alert_sparklines
from metrics.models import DeviceGroup
from rest.caller import Caller, caller_of

MAX_RECENT_RESOLVED = 10  # below the open alerts
RECENT_PERIOD = timedelta(days=1)
MAX_INBOX_OFFSET = 10_000
MAX_COUNT = 1000
MAX_UPDATED = 200  # alerts of one request for updates
SECTION_TITLES = {
    Status.ACTIVE: "Unacknowledged",
    Status.ACKNOWLEDGED: "Acknowledged",
    Status.RESOLVED: "Recently resolved",
}


def _sections(request: HttpRequest, visible: AlertQuerySet, filters: InboxFilters) -> list[dict[str, Any]]:
    """Return a page of one status, or for triage the first alerts of each status and the last day's resolved ones."""
    alerts = filters.apply(visible, caller_of(request.user))
    is_single = len(filters.statuses) == 1
    start = offset_of(request, MAX_INBOX_OFFSET) if is_single else 0
    now = timezone.now()
    recent = alerts.filter(resolved_at__gt=now - RECENT_PERIOD, triggered_at__gt=now - 7 * RECENT_PERIOD)
    parts: list[tuple[Status, AlertQuerySet, ListPage, list[Alert]]] = []
    for status in filters.statuses:
        of_status = (recent if status == Status.RESOLVED and not is_single else alerts).filter(status=status)
        size = PAGE_SIZE if is_single or status != Status.RESOLVED else MAX_RECENT_RESOLVED
        page = page_of(request, _heads(of_status, status, start, size + 1), start, size)
        parts.append((status, of_status, page, incident_alerts(page.rows, of_status)))
    shown = [alert for _, _, page, others in parts for alert in (*page.rows, *others)]
    unit_of, still_open, covers = units_of(shown), open_incidents(shown, visible), covering_silences(shown)
    return [
        {
            "status": status,
            "title": SECTION_TITLES[status],
            "rows": with_children(page.rows, others, unit_of, still_open, covers),
            "count": BoundedCount(of_status[:MAX_COUNT].count(), MAX_COUNT),
            "page": page,
            "view_query": filters.query_with_view(status),
        }
        for status, of_status, page, others in parts
    ]


def _heads(alerts: AlertQuerySet, status: Status, start: int, count: int) -> list[Alert]:
    """Return one alert per incident: open ones the worst first, resolved ones newest first."""
    heads = incident_heads(alerts)
    if status != Status.RESOLVED:
        return worst_first(heads, start, count)
    newest = heads.select_related("incident", "device", "rule").order_by("-triggered_at", "-id")
    return list(newest[start : start + count])


@require_safe
def inbox(request: HttpRequest) -> HttpResponse:
    """Show the alerts: `?view=` is one status, "mine", or empty for triage; the other parameters filter."""
    caller = caller_of(request.user)
    filters = InboxFilters.parse(request.GET)
    visible = Alert.objects.visible_to(caller).without_shadows()
    sections = _sections(request, visible, filters)
    owners = visible.filter(status=Status.ACKNOWLEDGED).order_by("owner").values_list("owner", flat=True).distinct()
    others = [(name, display_name(name)) for name in owners[:MAX_CHOICES] if name and name != caller.name]
    context = {
        "sections": sections,
        "empty": not any(section["rows"] for section in sections),
        "filters": filters,
        "views": [(key, label, filters.query_with_view(key)) for key, label in VIEWS],
        "levels": Level.choices[::-1],
        "groups": [(name, name) for name in names_of(DeviceGroup.objects.visible_to(caller))],
        "owners": [("me", "Me"), ("nobody", "Unassigned"), *others],
        "ages": AGES,
        "rule": visible_rules(caller).filter(rule_id=filters.rule).first() if filters.rule else None,
        "newest": visible.order_by("-pk").values_list("pk", flat=True).first() or 0,
    }
    return render(request, "dashboard/alerts/alerts.html", context)


@require_safe
def alert_updates(request: HttpRequest) -> JsonResponse:
    """Return the status of the alerts that a page shows (`shown`), and how many are newer than `since`."""
    caller = caller_of(request.user)
    visible = Alert.objects.visible_to(caller).without_shadows()
    since = to_int(request.GET.get("since", ""))
    newer = InboxFilters.parse(request.GET).apply(visible, caller).filter(pk__gt=since, status__in=OPEN_STATUSES)
    count = newer[:MAX_COUNT].count()
    shown = visible.filter(alert_id__in=_shown_ids(request, MAX_UPDATED))
    return JsonResponse(
        {
            "newer": count,
            "newest": newer.order_by("-pk").values_list("message", flat=True)[0] if count else "",
            "counts": OpenAlertCounts.visible_to(caller).counts_text,
            "alerts": row_states(shown, visible),
        }
    )


def row_states(alerts: AlertQuerySet, visible: AlertQuerySet) -> dict[str, dict[str, Any]]:
    """Return what changes in the rows of alerts while a page is open, by alert ID."""
    same_incident = visible.open().filter(incident=OuterRef("incident"))
    shown: list[Any] = list(alerts.order_by().annotate(incident_open=Exists(same_incident)))
    covers = covering_silences(shown)
    return {
        alert.alert_id: {
            "status": alert.status,
            "owner": display_name(alert.owner),
            "incident_open": alert.incident_open,
            "silenced": cover_text(covers[alert.pk]) if alert.pk in covers else "",
        }
        for alert in shown
    }


@require_safe
def sparklines(request: HttpRequest) -> JsonResponse:
    """Return the sparklines of the alerts that a page shows; the page asks for them after it is rendered."""
    visible = Alert.objects.visible_to(caller_of(request.user)).without_shadows()
    shown = visible.filter(alert_id__in=_shown_ids(request, MAX_SPARKLINES)).select_related("device", "rule")
    return JsonResponse(alert_sparklines(list(shown), timezone.now()))


def _shown_ids(request: HttpRequest, maximum: int) -> list[str]:
    return request.GET.get("shown", "").replace("\0", "").split(",")[:maximum]


def worst_rows(caller: Caller, count: int, **filters: Any) -> list[AlertRow]:
    """Return the worst open alerts that match these look-ups."""
    alerts = Alert.objects.visible_to(caller).without_shadows().open().filter(**filters)
    return rows_of(worst_first(alerts, 0, count))
