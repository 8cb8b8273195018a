"""Rules: the list, and one rule as a form with its versions and shadow rules."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import Count, Q
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from alerts.conditions.spec import MAX_CONDITIONS
from alerts.models import Alert, Channel, Mode, Rule, RuleVersion
from alerts.rules import lifecycle
from alerts.rules.unresolved_names import UnresolvedNames, find_unresolved_names, metrics_of
from dashboard import rule_words
from dashboard.alert_rows import display_name
from dashboard.device_overview import plural
from dashboard.forms.rules import RuleEditForm
from dashboard.number_format import duration_text
from dashboard.pagination import MAX_SEARCH_LENGTH, PAGE_SIZE, paginate, search_of
from dashboard.views.access import admin_of, operator_of
from metrics.models import DeviceGroup, MetricDefinition
from rest.caller import Caller, caller_of
from rest.errors import InvalidFields, NotFound

MAX_NAMED = 3  # missing names in one warning
MAX_VERSIONS = 20
MAX_CHOICES = 200
COMPARISON_PERIOD = timedelta(days=14)
MAX_VERSION_NUMBER = 2**31 - 1
BACKTEST_RANGES = (("86400", "24 h"), ("604800", "7 d"), ("2592000", "30 d"))
# Inputs of the form's sentence: their errors are listed below it.
SENTENCE_FIELDS = (
    "kind", "metric_name", "aggregation", "condition", "threshold_value", "conditions", "measure", "horizon",
    "expected_interval", "grace", "trigger_count", "evaluation_window", "level",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RuleRow:
    """A rule of the list."""

    rule: Any  # with `shadow_count`
    missing: UnresolvedNames
    now: datetime

    @property
    def sentence(self) -> str:
        return rule_words.sentence(self.rule)

    @property
    def shadow_count(self) -> int:
        count: int = self.rule.shadow_count
        return count

    @property
    def age(self) -> str:
        last = self.rule.last_triggered
        return duration_text((self.now - last).total_seconds()) if last else ""

    @property
    def noise_score(self) -> str:
        """From 0 to 100: the share of alerts without any action."""
        score = getattr(self.rule, "noise", None)
        value = None if score is None else score.figures.get("score")
        return f"{value:.0f}/100" if isinstance(value, int | float) else ""

    @property
    def warnings(self) -> list[str]:
        """Names in the rule that do not exist, so that it opens no alerts or notifies no channel."""
        rule, missing = self.rule, self.missing
        checks: tuple[tuple[str, Iterable[str], set[str]], ...] = (
            ("Channel not configured: {}", rule.notification_channels, missing.channels),
            ("No data yet: {}", sorted(metrics_of(rule)), missing.metrics),
            ("Unknown device: {}", rule.device_ids, missing.devices),
            ("Unknown group: {}", rule.device_groups, missing.groups),
        )
        unknown = ((text, [name for name in names if name in absent]) for text, names, absent in checks)
        return [text.format(_first_of(names)) for text, names in unknown if names]


def _first_of(names: list[str]) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A version of a rule, and the version before it."""

    version: RuleVersion
    before: RuleVersion | None

    @property
    def changed_by(self) -> str:
        return display_name(self.version.by)

    @property
    def changes(self) -> list[tuple[str, str, str]]:
        return rule_words.changes(self.version, self.before)


@dataclass(frozen=True, slots=True)
class ShadowRow:
    """A shadow rule beside the live rule: the alerts of both since the shadow was created, two weeks at most."""

    shadow: Rule
    since: datetime
    live_count: int
    shadow_count: int

    @property
    def sentence(self) -> str:
        return rule_words.sentence(self.shadow)


@login_required
@require_safe
def rule_list(request: HttpRequest) -> HttpResponse:
    """Show a page of rules by name; `?q=` searches names, descriptions and metrics."""
    search = search_of(request)
    rules = Rule.objects.filter(mode=Mode.LIVE)
    if search:
        fields = Q(name__icontains=search) | Q(description__icontains=search) | Q(metric_name__icontains=search)
        rules = rules.filter(fields)
    listed = rules.select_related("noise").annotate(shadow_count=Count("shadows")).order_by("name", "pk")
    page, now = paginate(request, listed), timezone.now()
    missing = find_unresolved_names(page.rows)
    context = {
        "rows": [RuleRow(rule, missing, now) for rule in page.rows],
        "page": page,
        "total": rules.count(),
        "search": search,
    }
    return render(request, "dashboard/alerts/rules.html", context)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def new_rule(request: HttpRequest) -> HttpResponse:
    """Show the form of a new rule, and create it; `?device=…&metric=…` of a link fill the form in."""
    caller = admin_of(request)
    linked = {
        "metric_name": request.GET.get("metric", "").replace("\0", ""),
        "device_ids": [name.replace("\0", "") for name in request.GET.getlist("device")],
    }
    form = _form(request, caller, Rule(), linked)
    if form.is_valid():
        assert form.rule_fields is not None
        created = lifecycle.create(form.rule_fields | {"enabled": True}, caller.name)
        messages.success(request, f"{created.name} created and enabled.")
        return redirect(_rule_url(created))
    return _page(request, caller, Rule(), form)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def rule_page(request: HttpRequest, rule_id: str) -> HttpResponse:
    """Show a rule as a form; admins save it as its next version, or as a shadow rule."""
    caller = caller_of(request.user)
    rule = _rule(rule_id)
    if request.method == "POST":
        admin_of(request)
    form = _form(request, caller, rule)
    if form.is_valid():
        return _save(request, caller, rule, form)
    return _page(request, caller, rule, form)


def _form(request: HttpRequest, caller: Caller, rule: Rule, initial: dict[str, Any] | None = None) -> RuleEditForm:
    groups = DeviceGroup.objects.visible_to(caller).order_by("name").values_list("name", flat=True)[:MAX_CHOICES]
    channels = Channel.objects.order_by("name").values_list("name", flat=True)[:MAX_CHOICES]
    data = request.POST if request.method == "POST" else None
    return RuleEditForm(data, rule, initial, list(groups), list(channels))


def _save(request: HttpRequest, caller: Caller, rule: Rule, form: RuleEditForm) -> HttpResponse:
    """Save a valid form as the rule's next version, or as a shadow rule."""
    assert form.rule_fields is not None
    if request.POST.get("as") == "shadow" and rule.mode == Mode.LIVE:
        created = lifecycle.create(form.rule_fields | {"enabled": True}, caller.name, shadow_of=rule)
        messages.success(request, "Shadow rule created. It is evaluated on live data and never notifies.")
        return redirect(_rule_url(created))
    if request.POST.get("version") != str(rule.version):
        last = rule.versions.first()
        changed_by = display_name(last.by) if last else "Another user"
        text = f"Not saved: {changed_by} changed this rule. Your draft is kept; saving it again replaces the change."
        form.add_error("version", text)
        return _page(request, caller, rule, form)
    note = request.POST.get("note", "").replace("\0", "").strip()[:MAX_SEARCH_LENGTH]
    changed = lifecycle.change(rule, form.rule_fields | {"enabled": rule.enabled}, caller.name, note)
    is_same = changed.version == rule.version
    messages.success(request, "No changes to save." if is_same else f"Version {changed.version} saved.")
    return redirect(_rule_url(changed))


def _page(request: HttpRequest, caller: Caller, rule: Rule, form: RuleEditForm) -> HttpResponse:
    metrics = MetricDefinition.objects.order_by("name").values_list("name", flat=True)
    context = {
        "rule": rule,
        "form": form,
        "sentence_fields": SENTENCE_FIELDS,
        "max_conditions": MAX_CONDITIONS,
        "backtest_ranges": BACKTEST_RANGES,
        "metrics": list(metrics[:MAX_CHOICES]),
        "versions": _versions(rule) if rule.pk else [],
        "shadows": _shadows(rule, caller) if rule.pk else [],
    }
    status = 422 if form.is_bound and form.error_lists() else 200
    return render(request, "dashboard/alerts/rule.html", context, status=status)


def _versions(rule: Rule) -> list[VersionRow]:
    """Return the newest versions, each with the one before it."""
    versions = list(rule.versions.all()[: MAX_VERSIONS + 1])
    pairs = zip(versions[:MAX_VERSIONS], [*versions[1:], None], strict=False)
    return [VersionRow(version, before) for version, before in pairs]


def _shadows(rule: Rule, caller: Caller) -> list[ShadowRow]:
    """Return the shadow rules of a rule, or a shadow rule itself, with the numbers of alerts."""
    live = rule.shadow_of or rule
    shadows = [rule] if rule.shadow_of else list(live.shadows.order_by("-created_at")[:PAGE_SIZE])
    visible = Alert.objects.visible_to(caller)
    rows = []
    for shadow in shadows:
        since = max(shadow.created_at, timezone.now() - COMPARISON_PERIOD)
        alerts = visible.filter(rule__in=[live, shadow], triggered_at__gte=since).order_by()
        counts = dict(alerts.values_list("rule").annotate(count=Count("pk")))
        rows.append(ShadowRow(shadow, since, counts.get(live.pk, 0), counts.get(shadow.pk, 0)))
    return rows


@login_required
@require_POST
def check_rule(request: HttpRequest) -> JsonResponse:
    """Return the form as fields of the API, for a backtest of an unsaved rule, or its errors."""
    admin_of(request)
    form = RuleEditForm(request.POST, Rule())
    return JsonResponse({"document": form.rule_fields if form.is_valid() else None, "errors": form.error_lists()})


@login_required
@require_POST
def switch_rule(request: HttpRequest, rule_id: str) -> HttpResponse:
    """Enable or disable a rule."""
    caller = operator_of(request)
    rule, enabled = _rule(rule_id), request.POST.get("enabled") == "yes"
    try:
        lifecycle.change(rule, {"enabled": enabled}, caller.name)
    except InvalidFields as error:
        messages.error(request, f"Not changed: {error}.")
    else:
        messages.success(request, f"{rule.name} {'enabled' if enabled else 'disabled'}.")
    return redirect("dashboard:rules" if request.POST.get("back") == "list" else _rule_url(rule))


@login_required
@require_POST
def restore_version(request: HttpRequest, rule_id: str) -> HttpResponse:
    """Save an earlier version again, as the next version."""
    caller, rule = admin_of(request), _rule(rule_id)
    number = request.POST.get("version", "")
    try:
        changed = lifecycle.roll_back(rule, min(int(number), MAX_VERSION_NUMBER), caller.name)
        messages.success(request, f"Version {number} restored as version {changed.version}.")
    except (NotFound, InvalidFields, ValueError) as error:
        messages.error(request, f"Not restored: {error}.")
    return redirect(_rule_url(rule))


@login_required
@require_POST
def promote(request: HttpRequest, rule_id: str) -> HttpResponse:
    """Save a shadow rule as the next version of its live rule."""
    caller, shadow = admin_of(request), _rule(rule_id)
    if shadow.shadow_of is None:
        raise Http404
    live = lifecycle.promote(shadow, caller.name)
    messages.success(request, f"Shadow promoted: version {live.version} of {live.name} saved.")
    return redirect(_rule_url(live))


@login_required
@require_POST
def delete(request: HttpRequest, rule_id: str) -> HttpResponse:
    """Delete a rule and resolve its open alerts; all its alerts are kept."""
    caller, rule = admin_of(request), _rule(rule_id)
    live, open_count = rule.shadow_of, rule.alerts.open().count()
    lifecycle.delete(rule, caller.name)
    resolved = f" {plural(open_count, 'open alert')} resolved." if open_count and live is None else ""
    messages.success(request, f"{rule.name} deleted.{resolved}")
    return redirect(_rule_url(live) if live is not None else "dashboard:rules")


def _rule_url(rule: Rule) -> str:
    return reverse("dashboard:rule", args=[rule.rule_id])


def _rule(rule_id: str) -> Rule:
    rules = Rule.objects.select_related("shadow_of")
    rule: Rule = get_object_or_404(rules, rule_id=rule_id.replace("\0", ""))
    return rule
