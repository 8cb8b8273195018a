"""The page of one alert: its values, cause, timeline, notifications and related alerts."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.contrib.auth import get_user_model
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_safe

from alerts.alert_values import read_current_values
from alerts.anomaly_feedback import feedback_of, read_adjustments, takes_feedback
from alerts.history.trace import EvaluationTrace, trace_evaluation
from alerts.models import Alert, AlertEvent, EventKind, Notice, RuleKind, Status
from alerts.models.alerts import AlertQuerySet
from alerts.silenced_alerts import covering_silences, silenced_periods
from alerts.visibility import may_change_silence, narrow_events
from dashboard.alert_rows import AlertRow, display_name, drawn_threshold, rows_of
from dashboard.views.devices import RANGES
from metrics.error_responses import EXPECTED_ERRORS
from metrics.models import DeviceGroup
from metrics.value_text import kind_of, with_unit
from rest.caller import OPERATORS, Caller, Scope, caller_of

MAX_EVENTS = 200
MAX_NOTIFICATIONS = 50
MAX_RELATED = 5
MAX_OWNERS = 100
PREVIOUS_PERIOD = timedelta(days=14)
MAX_PREVIOUS = 1000
CHART_MARGIN = timedelta(hours=1)  # around a resolved alert
SHORT_AGE = timedelta(hours=1)  # younger alerts get the shorter time range
SILENCE_BEGAN, SILENCE_ENDED = "silence_began", "silence_ended"
TIMELINE_ICONS: dict[str, tuple[str, str]] = {  # the icon and its CSS class
    EventKind.TRIGGERED: ("bell", ""), EventKind.ACKNOWLEDGED: ("check", "yes"), EventKind.RESOLVED: ("check", "yes"),
    EventKind.ASSIGNED: ("branch", ""), EventKind.COMMENTED: ("talk", ""), EventKind.SILENCED: ("bell-off", ""),
    EventKind.NOTIFIED: ("send", ""), EventKind.FAILED: ("x", "no"), EventKind.ESCALATED: ("send", ""),
    EventKind.JOINED: ("branch", ""), EventKind.FEEDBACK: ("talk", ""),
    SILENCE_BEGAN: ("bell-off", ""), SILENCE_ENDED: ("bell", ""),
}  # fmt: skip


@require_safe
def alert_page(request: HttpRequest, alert_id: str) -> HttpResponse:
    """Show an alert. Alerts of shadow rules have pages too, although no list contains them."""
    caller, now = caller_of(request.user), timezone.now()
    visible = Alert.objects.visible_to(caller)
    related = visible.select_related("rule", "device", "incident")
    alert = get_object_or_404(related, alert_id=alert_id)
    row = rows_of([alert])[0]
    notices = list(Notice.objects.filter(alert=alert).select_related("delivery").order_by("-pk")[:MAX_NOTIFICATIONS])
    context = {
        "row": row,
        "can_end_silence": row.cover is not None and may_change_silence(row.cover.silence, caller),
        "current": read_current_values([alert]).get(alert.pk) if alert.status != Status.RESOLVED else None,
        "trace": _trace(alert, caller),
        "takes_feedback": takes_feedback(alert),
        "feedback": feedback_of(alert),
        "adjustment": _adjustment(alert),
        "timeline": _timeline(alert, now, caller),
        "notifications": notices,
        "failing": _find_failing(notices),
        "related": _related(alert, visible),
        "previous_count": _count_previous(alert, visible),
        "owners": _owners(caller, alert) if caller.may(Scope.OPERATE) and alert.status != Status.RESOLVED else [],
        "detection_seconds": max(0.0, (alert.raised_at - alert.triggered_at).total_seconds()),
        "chart": _chart(row) if alert.device and kind_of(alert.value) != "words" else None,
        "ranges": RANGES,
        "range": "1h" if now - alert.triggered_at < SHORT_AGE else "6h",
    }
    return render(request, "dashboard/alerts/alert.html", context)


def _adjustment(alert: Alert) -> float:
    """Return the factor of the series' notification threshold, by feedback."""
    if alert.series is None or not takes_feedback(alert):
        return 1.0
    return read_adjustments([alert.series]).get(alert.series, 1.0)


class TimelineEntry(NamedTuple):
    """An event of an alert, or the begin or end of a silence that covered it."""

    at: datetime
    kind: str
    by: str
    note: str
    until: datetime | None = None  # of a silence
    error: str = ""  # of a notification

    @property
    def icon(self) -> str:
        return TIMELINE_ICONS[self.kind][0]

    @property
    def style(self) -> str:
        return TIMELINE_ICONS[self.kind][1]


def _timeline(alert: Alert, now: datetime, caller: Caller) -> list[TimelineEntry]:
    """Return the events of an alert and its silences, newest first; an alert without events was at least opened."""
    events = list(alert.events.order_by("-pk")[:MAX_EVENTS])
    narrow_events(events, alert, caller)
    opened = AlertEvent(alert=alert, kind=EventKind.TRIGGERED, at=alert.triggered_at)
    entries = [
        TimelineEntry(event.at, event.kind, event.by, event.note, error=event.details.get("error", ""))
        for event in events or [opened]
    ]
    until = alert.resolved_at or now
    for silence, begin, end in silenced_periods(alert, now):
        ends_at = None if silence.alert_id else end
        entries.append(TimelineEntry(begin, SILENCE_BEGAN, silence.created_by, silence.reason, ends_at))
        if end <= until:
            entries.append(TimelineEntry(end, SILENCE_ENDED, silence.created_by, silence.reason))
    return sorted(entries, key=lambda entry: entry.at, reverse=True)


def _find_failing(notices: Sequence[Notice]) -> list[Notice]:
    """Return the newest sent or retried notification of each channel, where its last attempt failed."""
    attempted = [notice for notice in reversed(notices) if notice.delivery is not None]
    newest = {notice.channel_name: notice for notice in attempted}
    return [notice for notice in newest.values() if notice.delivery is not None and notice.delivery.error]


def _trace(alert: Alert, caller: Caller) -> EvaluationTrace | None:
    """Return the evaluation trace at the time at which the alert opened; None where it cannot be computed any more."""
    if alert.rule is None or alert.device is None:
        return None
    try:
        return trace_evaluation(alert.rule, alert.device, alert.triggered_at, caller, alert)
    except EXPECTED_ERRORS:
        return None


def _related(alert: Alert, visible: AlertQuerySet) -> list[tuple[str, list[AlertRow]]]:
    """Return the newest alerts of the same incident, device and rule; each alert is listed once."""
    listed: set[int] = {alert.pk}
    groups: list[tuple[str, list[Alert]]] = []
    for title, relation in (("Same incident", "incident_id"), ("Same device", "device_id"), ("Same rule", "rule_id")):
        if getattr(alert, relation) is None:
            continue
        same = visible.without_shadows().filter(**{relation: getattr(alert, relation)})
        newest = same.exclude(pk__in=listed).order_by("-triggered_at", "-id")
        related = list(newest.select_related("incident", "device")[:MAX_RELATED])
        listed.update(other.pk for other in related)
        if related:
            groups.append((title, related))
    covers = covering_silences([other for _, related in groups for other in related])
    # The rows show no values, and so no units.
    return [
        (title, [AlertRow(other, "", cover=covers.get(other.pk)) for other in related]) for title, related in groups
    ]


def _count_previous(alert: Alert, visible: AlertQuerySet) -> int:
    """Return how many alerts the rule opened for the series in the two weeks before, up to a bound."""
    same = visible.without_shadows().filter(rule=alert.rule_id, device=alert.device_id, metric_name=alert.metric_name)
    window = (alert.triggered_at - PREVIOUS_PERIOD, alert.triggered_at)
    return same.filter(triggered_at__range=window).exclude(pk=alert.pk)[:MAX_PREVIOUS].count()


def _owners(caller: Caller, alert: Alert) -> list[tuple[str, str]]:
    """Return the possible owners: admins, operators of the device in the caller's groups, and the current owner."""
    users = get_user_model().objects.filter(is_active=True)
    operates = Q(is_superuser=True)
    if alert.device is not None:
        shared = DeviceGroup.objects.visible_to(caller).filter(devices=alert.device)
        operates |= Q(groups__name=OPERATORS, device_groups__in=shared)
    operators = users.filter(operates).order_by("username").distinct()
    names = [f"user:{name}" for name in operators.values_list("username", flat=True)[:MAX_OWNERS]]
    if alert.owner and alert.owner not in names:
        names.insert(0, alert.owner)
    return [(name, "me" if name == caller.name else display_name(name)) for name in names]


def _chart(row: AlertRow) -> dict[str, Any]:
    """Return the chart's thresholds, expected range and spans; `window` None means that the chart is live."""
    alert = row.alert
    lines = []
    threshold = drawn_threshold(alert)
    if threshold is not None:
        lines.append({"value": threshold, "text": f"Threshold {with_unit(threshold, row.unit, alert.value)}"})
        recovery = alert.rule.clear_threshold if alert.rule else None
        if recovery is not None:
            text = f"Recovery threshold {with_unit(recovery, row.unit, threshold)}"
            lines.append({"value": recovery, "text": text, "recovery": True})
    end = alert.resolved_at
    return {
        "metric": {"name": alert.metric_name, "kind": kind_of(alert.value), "unit": row.unit},
        "thresholds": lines,
        "band": row.expected_range,
        "detects": alert.rule is not None and alert.rule.kind == RuleKind.ANOMALY,
        "spans": [{"start": _ms(alert.triggered_at), "end": _ms(end), "level": alert.level, "text": "Opened"}],
        "window": [_ms(alert.triggered_at - CHART_MARGIN), _ms(end + CHART_MARGIN)] if end else None,
    }


def _ms(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp() * 1000)
