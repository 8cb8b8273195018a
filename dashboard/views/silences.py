"""Silences: the list, the form with its preview, and ending one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from alerts import recurring_windows, silences
from alerts.models import Alert, Rule, Silence, SilenceKind
from dashboard.alert_rows import AlertRow, display_name, rows_of
from dashboard.device_overview import plural
from dashboard.forms.fields import WEEKDAYS
from dashboard.forms.silences import SilenceCreateForm
from dashboard.number_format import duration_text
from dashboard.pagination import paginate
from dashboard.views.access import operator_of
from metrics.models import DeviceGroup
from rest.caller import Caller, caller_of
from rest.errors import InvalidFields, NotFound

MAX_ROWS = 200
MAX_CHOICES = 200
PREVIEW_DAYS = 7
MAX_PREVIEW_ROWS = 5
MAX_COUNT = 1000


@dataclass(frozen=True, slots=True)
class SilenceRow:
    """A silence in words."""

    silence: Silence
    now: datetime
    alert: Alert | None = None
    rules: Sequence[str] = ()

    @property
    def state(self) -> str:
        if self.silence.ends_at <= self.now:
            return "past"
        return "active" if self.silence.starts_at <= self.now else "upcoming"

    @property
    def is_in_force(self) -> bool:
        """Whether it silences now; an active silence does not outside its recurring window."""
        return self.state == "active" and recurring_windows.is_active(self.silence.weekly, self.now)

    @property
    def is_maintenance(self) -> bool:
        return self.silence.kind == SilenceKind.MAINTENANCE

    @property
    def created_by(self) -> str:
        return display_name(self.silence.created_by)

    @property
    def targets(self) -> list[tuple[str, str]]:
        """The silenced alert, devices, groups, metrics, rules and levels as (kind, names)."""
        silence = self.silence
        targets = (
            ("Alert", self.alert.message if self.alert else silence.alert_id),
            ("Devices", ", ".join(silence.device_ids)),
            ("Groups", ", ".join(silence.device_groups)),
            ("Metrics", ", ".join(silence.metric_names)),
            ("Rules", ", ".join(self.rules or silence.rule_ids)),
            ("Levels", ", ".join(silence.levels)),
        )
        return [(kind, names) for kind, names in targets if names]

    @property
    def recurring_window(self) -> str:
        weekly = self.silence.weekly
        if not weekly:
            return ""
        days = ", ".join(WEEKDAYS[day] for day in sorted(weekly["days"]))
        return f"{days} {weekly['from']} to {weekly['to']} ({weekly.get('timezone', 'UTC')})"

    @property
    def remaining(self) -> str:
        """The time until it starts or ends."""
        moment = self.silence.starts_at if self.state == "upcoming" else self.silence.ends_at
        return duration_text(abs((moment - self.now).total_seconds()))


@dataclass(frozen=True, slots=True)
class PreviewedAlerts:
    """The alerts of the last days that a silence would have covered."""

    count: int
    rows: list[AlertRow]

    @property
    def summary(self) -> str:
        count = f"{MAX_COUNT:,} or more alerts" if self.count == MAX_COUNT else plural(self.count, "alert")
        return f"Would have silenced {count} of the last {PREVIEW_DAYS} days"


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def silence_list(request: HttpRequest) -> HttpResponse:
    """Show the silences and the form, which creates a silence or previews it."""
    caller, now = caller_of(request.user), timezone.now()
    if request.method == "POST":
        operator_of(request)
    form = SilenceCreateForm(request.POST if request.method == "POST" else None, request.GET, now)
    groups = DeviceGroup.objects.visible_to(caller).order_by("name").values_list("name", flat=True)[:MAX_CHOICES]
    form.offer("device_groups", [(name, name) for name in groups])
    form.offer("rule_ids", Rule.objects.order_by("name").values_list("rule_id", "name")[:MAX_CHOICES])
    preview = None
    if form.is_valid():
        try:
            if request.POST.get("do") == "preview":
                since = now - timedelta(days=PREVIEW_DAYS)
                preview = _preview(silences.preview_alerts(form.cleaned_data, caller, since, now), now)
            else:
                created = silences.create_silence(form.cleaned_data, caller, now)
                messages.success(request, f"Silenced until {created.ends_at:%d %b %H:%M} UTC. Alerts still open.")
                return redirect("dashboard:silences")
        except InvalidFields as error:
            form.add_errors(error.fields)
    context = _lists(request, caller, now) | {"form": form, "preview": preview}
    return render(request, "dashboard/alerts/silences.html", context, status=422 if form.errors else 200)


def _preview(alerts: QuerySet[Alert], now: datetime) -> PreviewedAlerts:
    newest = alerts.select_related("device").order_by("-triggered_at", "-id")[:MAX_PREVIEW_ROWS]
    return PreviewedAlerts(alerts[:MAX_COUNT].count(), rows_of(list(newest), now))


def _lists(request: HttpRequest, caller: Caller, now: datetime) -> dict[str, Any]:
    """Return the active and scheduled silences, and a page of the expired ones."""
    visible = silences.list_visible(caller)
    active = visible.filter(starts_at__lte=now, ends_at__gt=now).order_by("ends_at")[:MAX_ROWS]
    scheduled = visible.filter(starts_at__gt=now).order_by("starts_at")[:MAX_ROWS]
    page = paginate(request, visible.filter(ends_at__lte=now).order_by("-ends_at", "-id"))
    sections = (("Active", active), ("Scheduled", scheduled), ("Expired", page.rows))
    return {"sections": [(title, _rows(listed, now)) for title, listed in sections], "page": page}


def _rows(listed: Any, now: datetime) -> list[SilenceRow]:
    """Return a row for each silence, with its alert and the names of its rules."""
    rows = list(listed)
    alerts = Alert.objects.in_bulk([row.alert_id for row in rows if row.alert_id], field_name="alert_id")
    ids = {rule_id for row in rows for rule_id in row.rule_ids}
    names = dict(Rule.objects.filter(rule_id__in=ids).values_list("rule_id", "name")) if ids else {}
    return [
        SilenceRow(row, now, alerts.get(row.alert_id), [names.get(rule_id, rule_id) for rule_id in row.rule_ids])
        for row in rows
    ]


@login_required
@require_POST
def silence_alert(request: HttpRequest, alert_id: str) -> HttpResponse:
    """Silence the rule of an alert on its device for an hour, or the alert until it is resolved (`lasting`)."""
    caller, now = operator_of(request), timezone.now()
    alert = Alert.objects.visible_to(caller).select_related("rule").filter(alert_id=alert_id.replace("\0", "")).first()
    if alert is None:
        raise Http404
    until_resolved = request.POST.get("lasting") == "resolved"
    reason = f"From {alert.message}"[: silences.MAX_REASON_LENGTH]
    fields: dict[str, Any] = {"reason": reason, "ends_at": now + timedelta(hours=1)}
    if until_resolved:
        fields |= {"alert_id": alert.alert_id, "ends_at": now + silences.MAX_DURATION - timedelta(minutes=1)}
    else:
        fields |= {"device_ids": [alert.device_name], "rule_ids": [alert.rule.rule_id] if alert.rule else []}
    try:
        silences.create_silence(fields, caller, now)
    except InvalidFields as error:
        messages.error(request, f"Not silenced: {error}.")
    else:
        period = "until it is resolved" if until_resolved else "for 1 h"
        messages.success(request, f"Silenced {period}. You will still be notified when it resolves.")
    return redirect("dashboard:alert", alert.alert_id)


@login_required
@require_POST
def end_silence(request: HttpRequest, silence_id: str) -> HttpResponse:
    """End a silence now."""
    caller = operator_of(request)
    silence = silences.list_visible(caller).filter(silence_id=silence_id.replace("\0", "")).first()
    if silence is None:
        raise Http404
    try:
        silences.end_silence(silence, caller)
    except NotFound as error:
        raise Http404 from error
    messages.success(request, "Silence ended. Alerts that are still open notify again.")
    return redirect("dashboard:silences")
