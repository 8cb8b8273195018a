"""Rules: the list, and one rule as a form with its versions and shadow rules."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from alerts.conditions.spec import MAX_CONDITIONS
from alerts.models import Alert, Mode, Rule, RuleVersion
from alerts.rules import lifecycle
from alerts.rules.unresolved_names import UnresolvedNames, find_unresolved_names, metrics_of
from alerts.visibility import (
    check_may_change_rule,
    narrow_document,
    narrow_rules,
    visible_channels,
    visible_rules,
)
from dashboard import rule_words
from dashboard.alert_rows import display_name
from dashboard.device_overview import plural
from dashboard.forms.fields import names_of, posted
from dashboard.forms.rules import RuleEditForm
from dashboard.pagination import PAGE_SIZE, paginate, search_of, text_of
from dashboard.views.access import admin_of, operator_of
from metrics.models import DeviceGroup, MetricDefinition
from rest.caller import Caller, caller_of
from rest.errors import Forbidden, InvalidFields, NotFound

MAX_NAMED = 3  # missing names in one warning
MAX_VERSIONS = 20
COMPARISON_PERIOD = timedelta(days=14)
MAX_VERSION_NUMBER = 2**31 - 1
BACKTEST_RANGES = (("86400", "24 h"), ("604800", "7 d"), ("2592000", "30 d"))
# Inputs of the form's sentence: their errors are listed below it.
SENTENCE_FIELDS = (
    "kind", "metric_name", "aggregation", "condition", "threshold_value", "conditions", "measure", "horizon",
    "sensitivity", "expected_interval", "grace", "trigger_count", "evaluation_window", "level",
)  # fmt: skip


def warnings_of(rule: Rule, missing: UnresolvedNames) -> list[str]:
    """Return the names in a rule that do not exist, so that it opens no alerts or notifies no channel."""
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


@require_safe
def rule_list(request: HttpRequest) -> HttpResponse:
    """Show a page of rules by name; `?q=` searches names, descriptions and metrics."""
    search, caller = search_of(request), caller_of(request.user)
    rules = visible_rules(caller).filter(mode=Mode.LIVE)
    if search:
        fields = Q(name__icontains=search) | Q(description__icontains=search) | Q(metric_name__icontains=search)
        rules = rules.filter(fields)
    listed = rules.select_related("noise").annotate(shadow_count=Count("shadows")).order_by("name", "pk")
    page = paginate(request, listed)
    narrow_rules(page.rows, caller)
    missing = find_unresolved_names(page.rows)
    context = {
        "rows": [(rule, warnings_of(rule, missing)) for rule in page.rows],
        "page": page,
        "total": rules.count(),
        "search": search,
    }
    return render(request, "dashboard/alerts/rules.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def rule_page(request: HttpRequest, rule_id: str = "") -> HttpResponse:
    """Show a rule as a form; admins save it as its next version, or as a shadow rule.

    Without an ID it is a new rule; `?device=…&metric=…` of a link fill the form in.
    """
    caller, rule, linked = caller_of(request.user), Rule(), {}
    if rule_id:
        rule = _rule(caller, rule_id)
        narrow_rules([rule], caller)
    else:
        linked = {
            "metric_name": request.GET.get("metric", "").replace("\0", ""),
            "device_ids": [name.replace("\0", "") for name in request.GET.getlist("device")],
        }
    if request.method == "POST" or not rule_id:
        admin_of(request)
    groups = names_of(DeviceGroup.objects.visible_to(caller))
    form = RuleEditForm(posted(request), rule, linked, groups, names_of(visible_channels(caller)))
    if form.is_valid() and (saved := _save(request, caller, rule, form)):
        return redirect("dashboard:rule", saved.rule_id)
    context = {
        "rule": rule,
        "form": form,
        "sentence_fields": SENTENCE_FIELDS,
        "max_conditions": MAX_CONDITIONS,
        "backtest_ranges": BACKTEST_RANGES,
        "metrics": names_of(MetricDefinition.objects.all()) if caller.is_admin else [],
        "versions": _versions(rule, caller) if rule_id else [],
        "shadows": _shadows(rule, caller) if rule_id else [],
    }
    status = 422 if form.is_bound and form.error_lists() else 200
    return render(request, "dashboard/alerts/rule.html", context, status=status)


def _save(request: HttpRequest, caller: Caller, rule: Rule, form: RuleEditForm) -> Rule | None:
    """Save a valid form as a new rule, as a shadow rule or as the rule's next version; not over a concurrent change."""
    fields = form.cleaned_data
    if not rule.pk:
        saved = lifecycle.create(fields | {"enabled": True}, caller.name)
        message = f"{saved.name} created and enabled."
    elif request.POST.get("as") == "shadow" and rule.mode == Mode.LIVE:
        saved = lifecycle.create(fields | {"enabled": True}, caller.name, shadow_of=rule)
        message = "Shadow rule created. It is evaluated on live data and never notifies."
    elif request.POST.get("version") != str(rule.version):
        last = rule.versions.first()
        changed_by = display_name(last.by) if last else "Another user"
        text = f"Not saved: {changed_by} changed this rule. Your draft is kept; saving it again replaces the change."
        form.add_error("version", text)
        return None
    else:
        note = text_of(request.POST, "note")
        saved = lifecycle.change(rule, fields | {"enabled": rule.enabled}, caller.name, note)
        message = "No changes to save." if saved.version == rule.version else f"Version {saved.version} saved."
    messages.success(request, message)
    return saved


def _versions(rule: Rule, caller: Caller) -> list[tuple[RuleVersion, list[tuple[str, str, str]]]]:
    """Return the newest versions with their changes, as far as the caller sees."""
    versions = list(rule.versions.all()[: MAX_VERSIONS + 1])
    for version in versions:
        version.document = narrow_document(version.document, caller)
    pairs = zip(versions[:MAX_VERSIONS], [*versions[1:], None], strict=False)
    return [(version, rule_words.changes(version, before)) for version, before in pairs]


def _shadows(rule: Rule, caller: Caller) -> list[tuple[Rule, datetime, int, int]]:
    """Return the shadow rules of a rule, or a shadow rule itself, with the numbers of alerts of two weeks at most."""
    live = rule.shadow_of or rule
    shadows = [rule] if rule.shadow_of else list(live.shadows.order_by("-created_at")[:PAGE_SIZE])
    visible = Alert.objects.visible_to(caller)
    rows = []
    for shadow in shadows:
        since = max(shadow.created_at, timezone.now() - COMPARISON_PERIOD)
        alerts = visible.filter(rule__in=[live, shadow], triggered_at__gte=since).order_by()
        counts = dict(alerts.values_list("rule").annotate(count=Count("pk")))
        rows.append((shadow, since, counts.get(live.pk, 0), counts.get(shadow.pk, 0)))
    return rows


@require_POST
def check_rule(request: HttpRequest) -> JsonResponse:
    """Return the form as fields of the API, for a backtest of an unsaved rule, or its errors."""
    admin_of(request)
    form = RuleEditForm(request.POST, Rule())
    return JsonResponse({"document": form.cleaned_data if form.is_valid() else None, "errors": form.error_lists()})


@require_POST
def switch_rule(request: HttpRequest, rule_id: str) -> HttpResponse:
    """Enable or disable a rule."""
    caller = operator_of(request)
    rule, enabled = _rule(caller, rule_id), request.POST.get("enabled") == "yes"
    try:
        check_may_change_rule(rule, caller)
        lifecycle.change(rule, {"enabled": enabled}, caller.name)
    except Forbidden as error:
        raise PermissionDenied(str(error)) from error
    except InvalidFields as error:
        messages.error(request, f"Not changed: {error}.")
    else:
        messages.success(request, f"{rule.name} {'enabled' if enabled else 'disabled'}.")
    if request.POST.get("back") == "list":
        return redirect("dashboard:rules")
    return redirect("dashboard:rule", rule.rule_id)


@require_POST
def restore_version(request: HttpRequest, rule_id: str) -> HttpResponse:
    """Save an earlier version again, as the next version."""
    caller = admin_of(request)
    rule = _rule(caller, rule_id)
    number = request.POST.get("version", "")
    try:
        changed = lifecycle.roll_back(rule, min(int(number), MAX_VERSION_NUMBER), caller.name)
        messages.success(request, f"Version {number} restored as version {changed.version}.")
    except (NotFound, InvalidFields, ValueError) as error:
        messages.error(request, f"Not restored: {error}.")
    return redirect("dashboard:rule", rule.rule_id)


@require_POST
def promote(request: HttpRequest, rule_id: str) -> HttpResponse:
    """Save a shadow rule as the next version of its live rule."""
    caller = admin_of(request)
    shadow = _rule(caller, rule_id)
    if shadow.shadow_of is None:
        raise Http404
    live = lifecycle.promote(shadow, caller.name)
    messages.success(request, f"Shadow promoted: version {live.version} of {live.name} saved.")
    return redirect("dashboard:rule", live.rule_id)


@require_POST
def delete(request: HttpRequest, rule_id: str) -> HttpResponse:
    """Delete a rule and resolve its open alerts; all its alerts are kept."""
    caller = admin_of(request)
    rule = _rule(caller, rule_id)
    live, open_count = rule.shadow_of, rule.alerts.open().count()
    lifecycle.delete(rule, caller.name)
    resolved = f" {plural(open_count, 'open alert')} resolved." if open_count and live is None else ""
    messages.success(request, f"{rule.name} deleted.{resolved}")
    return redirect("dashboard:rule", live.rule_id) if live else redirect("dashboard:rules")


def _rule(caller: Caller, rule_id: str) -> Rule:
    rules = visible_rules(caller).select_related("shadow_of")
    rule: Rule = get_object_or_404(rules, rule_id=rule_id)
    return rule
