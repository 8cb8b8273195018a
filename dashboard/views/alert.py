"""The page of one alert: what is wrong, since when, beside what was measured; what was done and who was told."""

from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.decorators import login_required
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_safe

from alerts.history.trace import Trace, trace
from alerts.models import Alert, AlertEvent, EventKind, Kind, Notice
from alerts.models.alerts import AlertQuerySet
from dashboard.alert_rows import AlertRow, drawn_limit, person, rows_of
from dashboard.number_format import kind_of, reading
from dashboard.views.devices import RANGES
from metrics.errors import EXPECTED_ERRORS
from rest.caller import OPERATORS, Caller, Scope, caller_of

EVENTS = 200
NOTICES = 50
RELATED = 5
PEOPLE = 100
BEFORE = timedelta(days=14)
COUNTED = 1000
AROUND = timedelta(hours=1)  # of the chart of what is over, on both sides
SHORT = timedelta(hours=1)
ICONS = {
    EventKind.TRIGGERED: "bell", EventKind.ACKNOWLEDGED: "check", EventKind.RESOLVED: "check",
    EventKind.ASSIGNED: "branch", EventKind.COMMENTED: "talk", EventKind.SILENCED: "bell-off",
    EventKind.NOTIFIED: "send", EventKind.FAILED: "x", EventKind.ESCALATED: "send", EventKind.JOINED: "branch",
}  # fmt: skip


@login_required
@require_safe
def alert_page(request: HttpRequest, alert_id: str) -> HttpResponse:
    """Shadows have pages too: only lists leave them out."""
    caller, now = caller_of(request.user), timezone.now()
    visible = Alert.objects.visible_to(caller)
    known = visible.select_related("rule", "device", "incident")
    alert = get_object_or_404(known, alert_id=alert_id.replace("\0", ""))
    row = rows_of([alert], now)[0]
    notices = Notice.objects.filter(alert=alert).select_related("delivery").order_by("-pk")
    context = {
        "row": row,
        "trace": _trace(alert, caller),
        "events": [(one, ICONS[EventKind(one.kind)], person(one.by)) for one in _events(alert)],
        "notices": notices[:NOTICES],
        "related": _related(alert, visible, now),
        "before": _before(alert, visible),
        "people": _people(caller, alert) if caller.may(Scope.OPERATE) and not row.is_over else [],
        "operates": caller.may(Scope.OPERATE),
        "me": caller.name,
        "judged_after": max(0.0, (alert.raised_at - alert.triggered_at).total_seconds()),
        "chart": _chart(row) if alert.device and kind_of(alert.value) != "words" else None,
        "ranges": RANGES,
        "range": "1h" if now - alert.triggered_at < SHORT else "6h",
    }
    return render(request, "dashboard/alerts/alert.html", context)


def _events(alert: Alert) -> list[AlertEvent]:
    """The newest of them, the newest first."""
    return list(alert.events.order_by("-pk")[:EVENTS])


def _trace(alert: Alert, caller: Caller) -> Trace | None:
    """What evaluation had before it when it raised the alert; None where that is no more to be told."""
    if alert.rule is None or alert.device is None:
        return None
    try:
        return trace(alert.rule, alert.device, alert.triggered_at, caller)
    except EXPECTED_ERRORS:
        return None


def _related(alert: Alert, visible: AlertQuerySet, now: datetime) -> list[tuple[str, list[AlertRow]]]:
    """Alerts of the same incident, device and rule: the newest of each, none of them twice."""
    by = {
        "Same incident": Q(incident=alert.incident_id) if alert.incident_id else None,
        "Same device": Q(device=alert.device_id) if alert.device_id else None,
        "Same rule": Q(rule=alert.rule_id) if alert.rule_id else None,
    }
    told, groups = {alert.pk}, []
    for title, meant in by.items():
        if meant is None:
            continue
        newest = visible.without_shadows().filter(meant).exclude(pk__in=told).order_by("-triggered_at", "-id")
        found = list(newest.select_related("incident", "device")[:RELATED])
        told.update(one.pk for one in found)
        if found:
            groups.append((title, [AlertRow(one, "", now) for one in found]))  # which show no values
    return groups


def _before(alert: Alert, visible: AlertQuerySet) -> int:
    """How often the rule held for the series in the two weeks before, counted no further than it must be."""
    same = visible.without_shadows().filter(rule=alert.rule_id, device=alert.device_id, metric_name=alert.metric_name)
    window = (alert.triggered_at - BEFORE, alert.triggered_at)
    return same.filter(triggered_at__range=window).exclude(pk=alert.pk)[:COUNTED].count()


def _people(caller: Caller, alert: Alert) -> list[tuple[str, str]]:
    """Whom the alert may be given to: whoever operates."""
    users = get_user_model().objects.filter(is_active=True)
    operating = users.filter(Q(is_superuser=True) | Q(groups__name=OPERATORS)).order_by("username").distinct()
    names = [f"user:{name}" for name in operating.values_list("username", flat=True)[:PEOPLE]]
    if alert.owner and alert.owner not in names:
        names.insert(0, alert.owner)
    return [(name, "me" if name == caller.name else person(name)) for name in names]


def _chart(row: AlertRow) -> dict[str, Any]:
    """What the chart draws besides the values, and the window that it shows first: null follows now."""
    alert = row.alert
    limits = []
    limit = drawn_limit(alert)
    if limit is not None:
        limits.append({"value": limit, "text": f"Limit {reading(limit, row.unit)[0]}"})
        clear = alert.rule.clear_threshold if alert.rule else None
        if clear is not None:
            limits.append({"value": clear, "text": f"Well again at {reading(clear, row.unit)[0]}", "clear": True})
    end = alert.resolved_at
    return {
        "metric": {"name": alert.metric_name, "kind": kind_of(alert.value), "unit": row.unit},
        "limits": limits,
        "band": row.band,
        "detects": alert.rule is not None and alert.rule.kind == Kind.ANOMALY,
        "spans": [{"start": _ms(alert.triggered_at), "end": _ms(end), "level": alert.level, "text": "Opened"}],
        "window": [_ms(alert.triggered_at - AROUND), _ms(end + AROUND)] if end else None,
    }


def _ms(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp() * 1000)
