"""Rules: which there are and how they fare; one rule as a form, with its versions and shadows."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import Count, Q
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from alerts.conditions.spec import MOST_CONDITIONS, BadRule
from alerts.models import Alert, Channel, Mode, Rule
from alerts.rules import lifecycle
from alerts.rules.unresolved_names import Missing, metrics_of, missing_of
from dashboard import rule_choices, rule_form, rule_words
from dashboard.alert_rows import person
from dashboard.device_overview import plural
from dashboard.form_values import UNITS
from dashboard.number_format import duration_text
from dashboard.views.access import admin_of, operator_of
from metrics.models import DeviceGroup, MetricDefinition
from rest.caller import Caller, Scope, caller_of
from rest.errors import NotFound

PAGE = 50
FARTHEST = 10_000
NAMED = 3  # of what is missing
VERSIONS = 20
OFFERED = 200
COMPARED = timedelta(days=14)
MOST_VERSION = 2**31 - 1
WORDS_LENGTH = 200
BACKS = (("86400", "24 h"), ("604800", "7 d"), ("2592000", "30 d"))


@login_required
@require_safe
def rule_list(request: HttpRequest) -> HttpResponse:
    """A page of rules by name; `?q=` is part of a name, a description or a metric."""
    caller, now = caller_of(request.user), timezone.now()
    words = request.GET.get("q", "").replace("\0", "").strip()[:WORDS_LENGTH]
    given = request.GET.get("from", "0")
    start = min(int(given), FARTHEST) if given.isascii() and given.isdigit() and len(given) < 10 else 0
    found = Rule.objects.filter(mode=Mode.LIVE)
    if words:
        named = Q(name__icontains=words) | Q(description__icontains=words) | Q(metric_name__icontains=words)
        found = found.filter(named)
    page = list(
        found.select_related("noise").annotate(tried=Count("shadows")).order_by("name", "pk")[start : start + PAGE + 1]
    )
    missing = missing_of(page)
    context = {
        "rows": [_row(rule, missing, now) for rule in page[:PAGE]],
        "total": found.count(),
        "words": words,
        "start": start,
        "next": start + PAGE if len(page) > PAGE else None,
        "operates": caller.may(Scope.OPERATE),
        "administers": caller.may(Scope.ADMIN),
    }
    return render(request, "dashboard/alerts/rules.html", context)


def _row(rule: Rule, missing: Missing, now: Any) -> dict[str, Any]:
    score = getattr(rule, "noise", None)
    return {
        "rule": rule,
        "sentence": rule_words.sentence(rule),
        "age": duration_text((now - rule.last_triggered).total_seconds()) if rule.last_triggered else "",
        "cautions": _cautions(rule, missing),
        "noise": _noise(score.figures.get("score")) if score is not None else "",
        "tried": rule.tried,  # type: ignore[attr-defined]
    }


def _cautions(rule: Rule, missing: Missing) -> list[str]:
    """What keeps a rule from finding or telling anything, for now."""
    named: tuple[tuple[str, Iterable[str], set[str]], ...] = (
        ("Nobody has made {} yet", rule.notification_channels, missing.channels),
        ("Nothing was measured of {} yet", sorted(metrics_of(rule)), missing.metrics),
        ("There is no device {}", rule.device_ids, missing.devices),
        ("There is no group {}", rule.device_groups, missing.groups),
    )
    found = ((said, [name for name in names if name in absent]) for said, names, absent in named)
    return [said.format(_few(names)) for said, names in found if names]


def _few(names: list[str]) -> str:
    """The first of some names, and how many more there are."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _noise(score: Any) -> str:
    """From 0 to 100, where 100 is noise and nothing else."""
    return f"{score:.0f} of 100" if isinstance(score, (int, float)) else ""


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def new_rule(request: HttpRequest) -> HttpResponse:
    """A rule that there is not yet; `?device=…&metric=…` fill it in, for links from elsewhere."""
    caller = admin_of(request)
    form = rule_form.form_of(Rule())
    if request.method == "POST":
        fields, form = rule_form.read(request.POST)
        if fields is not None:
            made = lifecycle.create(fields | {"enabled": True}, caller.name)
            messages.success(request, f"{made.name} is evaluated from now on.")
            return redirect("dashboard:rule", made.rule_id)
    else:
        form.values["metric_name"] = request.GET.get("metric", "").replace("\0", "")
        form.values["device_ids"] = [one.replace("\0", "") for one in request.GET.getlist("device")]
    return _page(request, caller, Rule(), form)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def rule_page(request: HttpRequest, rule_id: str) -> HttpResponse:
    """A rule as a form: read by everybody, saved as its next version by admins; or tried beside it, as a shadow."""
    caller = caller_of(request.user)
    rule = _rule(rule_id)
    form = rule_form.form_of(rule)
    if request.method == "POST":
        admin_of(request)
        fields, form = rule_form.read(request.POST, rule)
        if fields is not None:
            return _saved(request, rule, fields | {"enabled": rule.enabled}, caller)
    return _page(request, caller, rule, form)


def _saved(request: HttpRequest, rule: Rule, fields: dict[str, Any], caller: Caller) -> HttpResponse:
    """The form's fields as the rule's next version, or of a shadow of it."""
    if request.POST.get("as") == "shadow" and rule.mode == Mode.LIVE:
        made = lifecycle.create(fields | {"enabled": True}, caller.name, shadow_of=rule)
        messages.success(request, "It runs beside the rule from now on, and tells nobody.")
        return redirect("dashboard:rule", made.rule_id)
    # Somebody else may have saved since the form was opened; what was typed stands for a moment longer.
    if request.POST.get("version") != str(rule.version):
        form = rule_form.read(request.POST, rule)[1]
        last = rule.versions.first()
        who = person(last.by) if last else "somebody"
        form.errors = {"version": [f"Not saved: {who} changed this rule. Your draft is kept; saving replaces it."]}
        return _page(request, caller, rule, form)
    note = request.POST.get("note", "").replace("\0", "").strip()[:WORDS_LENGTH]
    changed = lifecycle.change(rule, fields, caller.name, note)
    same = changed.version == rule.version
    messages.success(
        request, "Nothing differs: no version was made." if same else f"Version {changed.version} holds from now on."
    )
    return redirect("dashboard:rule", changed.rule_id)


def _page(request: HttpRequest, caller: Caller, rule: Rule, form: rule_form.RuleForm) -> HttpResponse:
    chosen = form.values.get("notification_channels") or []
    channels = list(Channel.objects.order_by("name").values_list("name", flat=True)[:OFFERED])
    groups = list(DeviceGroup.objects.visible_to(caller).order_by("name").values_list("name", flat=True)[:OFFERED])
    context = {
        "rule": rule,
        "form": form,
        "kinds": rule_choices.KINDS,
        "conditions": rule_choices.CONDITIONS,
        "parts": rule_choices.PARTS,
        "most_conditions": MOST_CONDITIONS,
        "measures": rule_choices.MEASURES,
        "levels": rule_choices.LEVELS,
        "units": UNITS,
        "backs": BACKS,
        "channels": channels,
        "unconfigured": [name for name in chosen if name not in channels],
        "groups": list(dict.fromkeys([*groups, *(form.values.get("device_groups") or [])])),
        "metrics": _metric_names(),
        "sentence": rule_words.sentence(rule) if rule.pk else "",
        "versions": _versions(rule) if rule.pk else [],
        "compared": _compared(rule, caller) if rule.pk else [],
        "operates": caller.may(Scope.OPERATE),
        "administers": caller.may(Scope.ADMIN),
        "by": person(rule.created_by),
    }
    status = 422 if form.errors else 200
    return render(request, "dashboard/alerts/rule.html", context, status=status)


def _metric_names() -> list[str]:
    """Names to choose from while one types: those that are defined."""
    return list(MetricDefinition.objects.order_by("name").values_list("name", flat=True)[:OFFERED])


def _versions(rule: Rule) -> list[dict[str, Any]]:
    """The newest of them, each with what it changed."""
    found = list(rule.versions.all()[: VERSIONS + 1])
    befores = [*found[1:], None]
    return [
        {"version": one, "by": person(one.by), "changes": rule_words.changes(one, before)}
        for one, before in zip(found[:VERSIONS], befores, strict=False)
    ]


def _compared(rule: Rule, caller: Caller) -> list[dict[str, Any]]:
    """A rule and its shadows: how many alerts each raised since the shadow began, two weeks at most."""
    live = rule.shadow_of or rule
    shadows = [rule] if rule.shadow_of else list(live.shadows.order_by("-created_at")[:PAGE])
    visible = Alert.objects.visible_to(caller)
    rows = []
    for shadow in shadows:
        since = max(shadow.created_at, timezone.now() - COMPARED)
        numbers = dict(
            visible.filter(rule__in=[live, shadow], triggered_at__gte=since)
            .order_by()
            .values_list("rule")
            .annotate(number=Count("pk"))
        )
        rows.append(
            {
                "shadow": shadow,
                "live": live,
                "since": since,
                "sentence": rule_words.sentence(shadow),
                "live_count": numbers.get(live.pk, 0),
                "shadow_count": numbers.get(shadow.pk, 0),
            }
        )
    return rows


@login_required
@require_POST
def check_rule(request: HttpRequest) -> JsonResponse:
    """What was typed, as the fields of the API, for a backtest of what is not saved; or what is wrong with it."""
    admin_of(request)
    fields, form = rule_form.read(request.POST)
    return JsonResponse({"document": fields, "errors": form.errors})


@login_required
@require_POST
def switch_rule(request: HttpRequest, rule_id: str) -> HttpResponse:
    """Enabled or not, which operators may say."""
    caller = operator_of(request)
    rule, enabled = _rule(rule_id), request.POST.get("enabled") == "yes"
    try:
        lifecycle.change(rule, {"enabled": enabled}, caller.name)
    except BadRule as error:
        messages.error(request, f"Not changed: {error}.")
    else:
        messages.success(request, f"{rule.name} is {'evaluated again' if enabled else 'not evaluated any more'}.")
    return redirect("dashboard:rules" if request.POST.get("back") == "list" else rule_address(rule))


@login_required
@require_POST
def put_back(request: HttpRequest, rule_id: str) -> HttpResponse:
    """A version of before, as the next one."""
    caller, rule = admin_of(request), _rule(rule_id)
    given = request.POST.get("version", "")
    try:
        changed = lifecycle.put_back(rule, min(int(given), MOST_VERSION), caller.name)
        messages.success(request, f"Version {given} is back, as version {changed.version}.")
    except (NotFound, BadRule, ValueError) as error:
        messages.error(request, f"Nothing was changed: {error}.")
    return redirect(rule_address(rule))


@login_required
@require_POST
def promote(request: HttpRequest, rule_id: str) -> HttpResponse:
    """What a shadow says becomes the next version of its rule."""
    caller, shadow = admin_of(request), _rule(rule_id)
    if shadow.shadow_of is None:
        raise Http404
    live = lifecycle.promote(shadow, caller.name)
    messages.success(request, f"What was tried is version {live.version} of {live.name}.")
    return redirect(rule_address(live))


@login_required
@require_POST
def delete(request: HttpRequest, rule_id: str) -> HttpResponse:
    """Its alerts stay; those that are open are resolved."""
    caller, rule = admin_of(request), _rule(rule_id)
    live, open_now = rule.shadow_of, rule.alerts.open().count()
    lifecycle.delete(rule, caller.name)
    closed = f" {plural(open_now, 'open alert')} resolved." if open_now and live is None else ""
    messages.success(request, f"{rule.name} is deleted.{closed}")
    return redirect(rule_address(live) if live is not None else "dashboard:rules")


def rule_address(rule: Rule) -> str:
    return reverse("dashboard:rule", args=[rule.rule_id])


def _rule(rule_id: str) -> Rule:
    found: Rule = get_object_or_404(Rule.objects.select_related("shadow_of"), rule_id=rule_id.replace("\0", ""))
    return found
