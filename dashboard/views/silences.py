"""Silences: what is kept quiet, until when and why; opened with a look at what they would have hidden, and ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from alerts import recurring_windows, silences
from alerts.models import Alert, Level, Rule, Silence, SilenceKind
from dashboard.alert_rows import AlertRow, person, rows_of
from dashboard.forms import DAYS, Typed, lines, texts, weekly_of
from dashboard.number_format import duration_text
from dashboard.views.access import operator_of
from metrics.models import DeviceGroup
from rest.caller import Caller, Scope, caller_of
from rest.errors import InvalidFields, NotFound

PAGE = 50
FARTHEST = 10_000
OFFERED = 200
BACK = timedelta(days=7)  # of the preview
SHOWN = 5  # alerts of the preview
COUNTED = 1000
LASTING = ((3600, "1 h"), (4 * 3600, "4 h"), (86_400, "1 day"), (7 * 86_400, "7 days"), (0, "until …"))


class SilenceForm(Typed):
    """The fields of a silence, as they were typed."""

    @classmethod
    def empty(cls, given: QueryDict) -> "SilenceForm":
        """`?device=…`, `?group=…`, `?rule=…` and `?metric=…` fill it in, for links from elsewhere."""
        names = {"device_ids": "device", "device_groups": "group", "rule_ids": "rule", "metric_names": "metric"}
        lists = {name: [one.replace("\0", "") for one in given.getlist(word)] for name, word in names.items()}
        return cls(lists | {"kind": SilenceKind.SILENCE, "lasting": "3600", "timezone": "UTC"})

    @classmethod
    def typed(cls, given: QueryDict) -> "SilenceForm":
        text = texts(given)
        lists: dict[str, Any] = {name: lines(text.get(name, "")) for name in ("device_ids", "metric_names")}
        lists |= {name: given.getlist(name) for name in ("device_groups", "rule_ids", "levels", "days")}
        return cls(text | lists)

    def fields(self, now: datetime) -> dict[str, Any]:
        """The fields of a silence; times that are none become errors."""
        given = self.values
        fields = {name: given.get(name, []) for name in silences.MATCHER_FIELDS}
        fields |= {"kind": given.get("kind"), "reason": given.get("reason", "")}
        starts_at = self._moment("starts_at") or now
        lasting = given.get("lasting", "")
        if lasting.isascii() and lasting.isdigit() and 0 < int(lasting[:9]) <= silences.MAX_DURATION.total_seconds():
            ends_at: datetime | None = starts_at + timedelta(seconds=int(lasting))
        else:
            ends_at = self._moment("ends_at")
        return fields | {
            "starts_at": starts_at,
            "ends_at": ends_at,
            "weekly": weekly_of(given, given.get("days") or []),
        }

    def _moment(self, name: str) -> datetime | None:
        """A time of the wall clock where the reader is."""
        text = self.values.get(name, "")
        if not text:
            return None
        try:
            return datetime.fromisoformat(text).replace(tzinfo=self._zone()).astimezone(UTC)
        except (ValueError, OverflowError):
            self.errors.setdefault(name, []).append("a date and a time are accepted")
            return None

    def _zone(self) -> ZoneInfo:
        name = self.values.get("timezone", "UTC")
        return ZoneInfo(name if name in available_timezones() else "UTC")


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
    def is_quiet(self) -> bool:
        """Whether it holds at this moment: one of nights is active by day, and keeps nothing quiet."""
        return self.state == "active" and recurring_windows.is_active(self.silence.weekly, self.now)

    @property
    def who(self) -> str:
        return person(self.silence.created_by)

    @property
    def what(self) -> list[tuple[str, str]]:
        one = self.silence
        parts = (
            ("Alert", self.alert.message if self.alert else one.alert_id), ("Devices", ", ".join(one.device_ids)),
            ("Groups", ", ".join(one.device_groups)), ("Metrics", ", ".join(one.metric_names)),
            ("Rules", ", ".join(self.rules or one.rule_ids)), ("Levels", ", ".join(one.levels)),
        )  # fmt: skip
        return [(name, words) for name, words in parts if words]

    @property
    def times(self) -> str:
        """Of the week, where it is not always."""
        if not self.silence.weekly:
            return ""
        given = self.silence.weekly
        days = ", ".join(DAYS[day] for day in sorted(given["days"]))
        return f"{days} {given['from']} to {given['to']} ({given.get('timezone', 'UTC')})"

    @property
    def left(self) -> str:
        moment = self.silence.starts_at if self.state == "upcoming" else self.silence.ends_at
        return duration_text(abs((moment - self.now).total_seconds()))


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def silence_list(request: HttpRequest) -> HttpResponse:
    """What is quiet now, what will be, and what was; the form opens one, or says what it would have hidden."""
    caller, now = caller_of(request.user), timezone.now()
    form, preview = SilenceForm.empty(request.GET), None
    if request.method == "POST":
        operator_of(request)
        form = SilenceForm.typed(request.POST)
        fields = form.fields(now)
        try:
            if form.errors:
                raise InvalidFields([])
            if request.POST.get("do") == "preview":
                preview = _preview(silences.preview_alerts(fields, caller, now - BACK, now), now)
            else:
                made = silences.create_silence(fields, caller, now)
                messages.success(request, f"Quiet until {made.ends_at:%d %b %H:%M} UTC. Alerts go on being raised.")
                return redirect("dashboard:silences")
        except InvalidFields as error:
            form.refuse(error)
    return _page(request, caller, form, preview, now)


def _preview(found: QuerySet[Alert], now: datetime) -> dict[str, Any]:
    """How many alerts it would have kept quiet, and the newest of them."""
    newest = list(found.select_related("device").order_by("-triggered_at", "-id")[:SHOWN])
    number = found[:COUNTED].count()
    rows: list[AlertRow] = rows_of(newest, now)
    return {"number": number, "counted": number == COUNTED, "rows": rows}


def _page(
    request: HttpRequest, caller: Caller, form: SilenceForm, preview: dict[str, Any] | None, now: datetime
) -> HttpResponse:
    given = request.GET.get("from", "0")
    start = min(int(given), FARTHEST) if given.isascii() and given.isdigit() and len(given) < 10 else 0
    visible = silences.list_visible(caller)
    past = list(visible.filter(ends_at__lte=now).order_by("-ends_at", "-id")[start : start + PAGE + 1])
    context = {
        "sections": [
            (
                "Quiet now",
                _rows(visible.filter(starts_at__lte=now, ends_at__gt=now).order_by("ends_at")[:OFFERED], now),
            ),
            ("To come", _rows(visible.filter(starts_at__gt=now).order_by("starts_at")[:OFFERED], now)),
            ("Over", _rows(past[:PAGE], now)),
        ],
        "start": start,
        "next": start + PAGE if len(past) > PAGE else None,
        "form": form,
        "preview": preview,
        "operates": caller.may(Scope.OPERATE),
        "levels": [(level, Level(level).label) for level in Level.values],
        "groups": DeviceGroup.objects.visible_to(caller).order_by("name").values_list("name", flat=True)[:OFFERED],
        "rules": Rule.objects.order_by("name").values_list("rule_id", "name")[:OFFERED],
        "lasting": LASTING,
        "days": list(enumerate(DAYS)),
    }
    return render(request, "dashboard/alerts/silences.html", context, status=422 if form.errors else 200)


def _rows(found: Any, now: datetime) -> list[SilenceRow]:
    """Each with the alert and the names of the rules that it is about."""
    rows = list(found)
    alerts = Alert.objects.in_bulk([one.alert_id for one in rows if one.alert_id], field_name="alert_id")
    ids = {rule_id for one in rows for rule_id in one.rule_ids}
    names = dict(Rule.objects.filter(rule_id__in=ids).values_list("rule_id", "name")) if ids else {}
    return [
        SilenceRow(one, now, alerts.get(one.alert_id), [names.get(rule_id, rule_id) for rule_id in one.rule_ids])
        for one in rows
    ]


@login_required
@require_POST
def silence_alert(request: HttpRequest, alert_id: str) -> HttpResponse:
    """From the page of an alert: what its rule says of its device for an hour, or this alert until it is over."""
    caller, now = operator_of(request), timezone.now()
    alert = Alert.objects.visible_to(caller).select_related("rule").filter(alert_id=alert_id.replace("\0", "")).first()
    if alert is None:
        raise Http404
    until_over = request.POST.get("lasting") == "resolved"
    reason = f"From {alert.message}"[: silences.MAX_REASON_LENGTH]
    fields: dict[str, Any] = {"reason": reason, "ends_at": now + timedelta(hours=1)}
    if until_over:
        fields |= {"alert_id": alert.alert_id, "ends_at": now + silences.MAX_DURATION - timedelta(minutes=1)}
    else:
        fields |= {"device_ids": [alert.device_name], "rule_ids": [alert.rule.rule_id] if alert.rule else []}
    try:
        silences.create_silence(fields, caller, now)
    except InvalidFields as error:
        messages.error(request, f"Not silenced: {error}.")
    else:
        messages.success(
            request, f"Quiet {'until it is resolved' if until_over else 'for 1 h'}. That it is over is told."
        )
    return redirect("dashboard:alert", alert.alert_id)


@login_required
@require_POST
def end_silence(request: HttpRequest, silence_id: str) -> HttpResponse:
    """It is over as of now."""
    caller = operator_of(request)
    found = silences.list_visible(caller).filter(silence_id=silence_id.replace("\0", "")).first()
    if found is None:
        raise Http404
    try:
        silences.end_silence(found, caller)
    except NotFound as error:
        raise Http404 from error
    messages.success(request, "The silence is over. What is still open is told again.")
    return redirect("dashboard:silences")
