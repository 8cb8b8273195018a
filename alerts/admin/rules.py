"""Admin of alert rules and their versions."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import pluralize
from django.utils.html import format_html_join
from django.utils.timezone import localtime

from alerts.admin.forms import ArrayFieldAdmin, ValidatedModelForm, copy_saved_values
from alerts.models import Rule
from alerts.rules import lifecycle
from rest.caller import caller_of

MAX_ACTION_RULES = 500  # rules that one action changes or deletes
MAX_SHOWN_VERSIONS = 20  # newest versions


class RuleForm(ValidatedModelForm):
    class Meta:
        model = Rule
        fields = lifecycle.FIELDS

    def clean_parameters(self) -> dict[str, Any]:
        return self.cleaned_data["parameters"] or {}

    def check(self) -> None:
        lifecycle.validate(self.instance)


@admin.register(Rule)
class RuleAdmin(ArrayFieldAdmin):
    help = (
        "Conditions that open alerts. Every change is stored as a new version and takes effect within seconds. Restore"
        " versions and try changes as a shadow rule through the API."
    )
    form = RuleForm
    list_display = ("name", "metric_name", "kind", "level", "enabled", "mode", "total_triggers", "last_triggered")
    list_filter = ("enabled", "level", "kind", "mode")
    search_fields = ("name", "metric_name", "=rule_id")
    actions = ("enable", "disable")
    fieldsets = (
        (None, {"fields": ("name", "description", "runbook_url", "enabled", "level")}),
        (
            "Condition",
            {
                "fields": (
                    "kind", "metric_name", "condition", "threshold_value", "clear_threshold", "aggregation",
                    "parameters", "device_ids", "device_groups",
                ),
                "description": (
                    'The threshold value is JSON: a number such as 80, true, false, or a text in quotes ("error").'
                    " null means no threshold, for kinds that do not compare values, such as absence."
                ),
            },
        ),
        ("Trigger", {"fields": ("evaluation_window", "trigger_count", "cooldown_minutes")}),
        ("Resolution", {"fields": ("auto_resolve", "auto_resolve_timeout")}),
        ("Notifications", {"fields": ("notification_channels",)}),
        (
            "State and history",
            {
                "fields": (
                    "rule_id", "mode", "shadow_of", "version", "latest_versions", "total_triggers", "last_triggered",
                    "suspended", "created_by", "created_at", "updated_at",
                )
            },
        ),
    )  # fmt: skip
    readonly_fields = (
        "rule_id", "mode", "shadow_of", "version", "latest_versions", "total_triggers", "last_triggered", "suspended",
        "created_by", "created_at", "updated_at",
    )  # fmt: skip

    @admin.display(description="versions")
    def latest_versions(self, rule: Rule) -> str:
        if rule.pk is None:
            return "-"
        newest = rule.versions.all()[:MAX_SHOWN_VERSIONS]
        lines = (
            (version.version, f"{localtime(version.at):%Y-%m-%d %H:%M}", version.by, version.note) for version in newest
        )
        return format_html_join("", "<div>{}: {}, {} {}</div>", lines)

    def save_model(self, request: HttpRequest, obj: Rule, form: Any, change: bool) -> None:
        by, fields = caller_of(request.user).name, lifecycle.document_of(obj)
        copy_saved_values(obj, lifecycle.change(obj, fields, by) if change else lifecycle.create(fields, by))

    def delete_model(self, request: HttpRequest, obj: Rule) -> None:
        lifecycle.delete(obj, caller_of(request.user).name)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Rule]) -> None:
        for rule in queryset[:MAX_ACTION_RULES]:
            lifecycle.delete(rule, caller_of(request.user).name)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[list[str], dict[str, int], set[str], list]:
        """Return the rules only: listing every version would be long, and alerts are kept."""
        names = [str(rule) for rule in objs[: MAX_ACTION_RULES + 1]]
        if len(names) > MAX_ACTION_RULES:
            return (
                names[:MAX_ACTION_RULES],
                {},
                set(),
                [f"more than {MAX_ACTION_RULES:,} rules are selected: select fewer"],
            )
        return names, {"alert rules, with all their versions": len(names)}, set(), []

    @admin.action(description="Enable", permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[Rule]) -> None:
        self._enable(request, queryset, True)

    @admin.action(description="Disable", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[Rule]) -> None:
        self._enable(request, queryset, False)

    def _enable(self, request: HttpRequest, queryset: QuerySet[Rule], enabled: bool) -> None:
        by = caller_of(request.user).name
        selected = list(queryset[: MAX_ACTION_RULES + 1])
        changed = selected[:MAX_ACTION_RULES]
        for rule in changed:
            lifecycle.change(rule, {"enabled": enabled}, by)
        state = "enabled" if enabled else "disabled"
        self.message_user(request, f"{len(changed):,} rule{pluralize(len(changed))} {state}.", messages.SUCCESS)
        if len(selected) > MAX_ACTION_RULES:
            self.message_user(
                request,
                f"Only the first {MAX_ACTION_RULES:,} selected rules were changed: repeat the action for the others.",
                messages.WARNING,
            )
