"""Silences: the list, the form with its preview, and ending one."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from alerts import recurring_windows, silences
from alerts.models import Alert, Rule, Silence
from alerts.visibility import narrow_silences, visible_rules, visible_silences
from dashboard.alert_rows import AlertRow, rows_of
from dashboard.device_overview import plural
from dashboard.forms.fields import MAX_CHOICES, names_of, posted
from dashboard.forms.silences import SilenceCreateForm
from dashboard.pagination import paginate
from dashboard.views.access import operator_of, return_url
from metrics.models import DeviceGroup
from rest.caller import Caller, caller_of
from rest.errors import Forbidden, InvalidFields, NotFound

MAX_ROWS = 200
PREVIEW_DAYS = 7
MAX_PREVIEW_ROWS = 5
MAX_COUNT = 1000


# A silence with its targets, and whether it silences now.
SilenceRow = tuple[Silence, list[tuple[str, str]], bool]


@require_http_methods(["GET", "HEAD", "POST"])
def silence_list(request: HttpRequest) -> HttpResponse:
    """Show the silences and the form, which creates a silence or previews it."""
    caller, now = caller_of(request.user), timezone.now()
    if request.method == "POST":
        operator_of(request)
    form = SilenceCreateForm(posted(request), request.GET, now)
    form.offer("device_groups", names_of(DeviceGroup.objects.visible_to(caller)))
    form.offer("rule_ids", visible_rules(caller).order_by("name").values_list("rule_id", "name")[:MAX_CHOICES])
    preview = None
    if request.POST.get("do") == "preview":
        preview = form.save(partial(_preview, caller, now))
    elif created := form.save(partial(silences.create_silence, caller=caller, now=now)):
        messages.success(
            request, f"Silenced until {timezone.localtime(created.ends_at):%-d %b %H:%M}. Alerts still open."
        )
        return redirect("dashboard:silences")
    context = _lists(request, caller, now) | {"form": form, "preview": preview}
    return render(request, "dashboard/alerts/silences.html", context, status=422 if form.errors else 200)


def _preview(caller: Caller, now: datetime, fields: dict[str, Any]) -> tuple[str, list[AlertRow]]:
    """Return the alerts of the last days that a silence would have covered: a summary and the newest ones."""
    alerts = silences.preview_alerts(fields, caller, now - timedelta(days=PREVIEW_DAYS), now)
    newest = alerts.select_related("device").order_by("-triggered_at", "-id")[:MAX_PREVIEW_ROWS]
    count = alerts[:MAX_COUNT].count()
    covered = f"{MAX_COUNT:,} or more alerts" if count == MAX_COUNT else plural(count, "alert")
    return f"Would have silenced {covered} of the last {PREVIEW_DAYS} days", rows_of(list(newest))


def _lists(request: HttpRequest, caller: Caller, now: datetime) -> dict[str, Any]:
    """Return the active and scheduled silences, and a page of the expired ones."""
    visible = visible_silences(caller)
    active = visible.filter(starts_at__lte=now, ends_at__gt=now).order_by("ends_at")[:MAX_ROWS]
    scheduled = visible.filter(starts_at__gt=now).order_by("starts_at")[:MAX_ROWS]
    page = paginate(request, visible.filter(ends_at__lte=now).order_by("-ends_at", "-id"))
    sections = (("Active", active), ("Scheduled", scheduled), ("Expired", page.rows))
    return {"sections": [(title, _rows(listed, caller, now)) for title, listed in sections], "page": page, "now": now}


def _rows(listed: Iterable[Silence], caller: Caller, now: datetime) -> list[SilenceRow]:
    """Return a row for each silence. An active silence does not silence outside its recurring window."""
    rows = list(listed)
    narrow_silences(rows, caller)
    visible = Alert.objects.visible_to(caller)
    alerts = visible.in_bulk([row.alert_id for row in rows if row.alert_id], field_name="alert_id")
    ids = {rule_id for row in rows for rule_id in row.rule_ids}
    names = dict(Rule.objects.filter(rule_id__in=ids).values_list("rule_id", "name")) if ids else {}
    return [(row, _targets(row, alerts, names), recurring_windows.is_active(row.weekly, now)) for row in rows]


def _targets(silence: Silence, alerts: dict[str, Alert], rule_names: dict[str, str]) -> list[tuple[str, str]]:
    """Return the silenced alert, devices, groups, metrics, rules and levels as (kind, names)."""
    alert = alerts.get(silence.alert_id)
    targets = {
        "Alert": [alert.message if alert else silence.alert_id],
        "Devices": silence.device_ids,
        "Groups": silence.device_groups,
        "Metrics": silence.metric_names,
        "Rules": [rule_names.get(rule_id, rule_id) for rule_id in silence.rule_ids],
        "Levels": silence.levels,
    }
    return [(kind, ", ".join(names)) for kind, names in targets.items() if any(names)]


@require_POST
def silence_alert(request: HttpRequest, alert_id: str) -> HttpResponse:
    """Silence the rule of an alert on its device for an hour, or the alert until it is resolved (`lasting`)."""
    caller, now = operator_of(request), timezone.now()
    alert = get_object_or_404(Alert.objects.visible_to(caller).select_related("rule"), alert_id=alert_id)
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


@require_POST
def end_silence(request: HttpRequest, silence_id: str) -> HttpResponse:
    """End a silence now."""
    caller = operator_of(request)
    silence = get_object_or_404(visible_silences(caller), silence_id=silence_id)
    try:
        silences.end_silence(silence, caller)
    except Forbidden as error:
        raise PermissionDenied(str(error)) from error
    except NotFound as error:
        raise Http404 from error
    messages.success(request, "Silence ended. Alerts that are still open notify again.")
    return redirect(return_url(request, reverse("dashboard:silences")))
