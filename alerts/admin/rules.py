"""Alert rules, and every version that they had."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html_join

from alerts.admin.forms import CheckedForm, ListsAdmin, taken_over
from alerts.models import Rule
from alerts.rules import lifecycle
from rest.caller import caller_of

MOST_AT_ONCE = 500  # rules that one request changes or deletes
SHOWN = 20  # versions


class RuleForm(CheckedForm):
    class Meta:
        model = Rule
        fields = lifecycle.FIELDS

    def clean_parameters(self) -> dict[str, Any]:
        return self.cleaned_data["parameters"] or {}

    def check(self) -> None:
        lifecycle.check(self.instance)


@admin.register(Rule)
class RuleAdmin(ListsAdmin):
    help = (
        "When somebody has to look at something. A change is the rule's next version and takes effect within a moment;"
        " versions are put back, and changes tried in a shadow, over the API."
    )
    form = RuleForm
    list_display = ("name", "metric_name", "kind", "level", "enabled", "mode", "total_triggers", "last_triggered")
    list_filter = ("enabled", "level", "kind", "mode")
    search_fields = ("name", "metric_name", "=rule_id")
    actions = ("enable", "disable")
    fieldsets = (
        (None, {"fields": ("name", "description", "runbook_url", "enabled", "level")}),
        (
            "What is judged",
            {
                "fields": (
                    "kind", "metric_name", "condition", "threshold_value", "clear_threshold", "aggregation",
                    "parameters", "device_ids", "device_groups",
                ),
                "description": "The threshold is a number, true, false, or a text in quotes.",
            },
        ),
        ("When it is raised", {"fields": ("evaluation_window", "trigger_count", "cooldown_minutes")}),
        ("When it is over", {"fields": ("auto_resolve", "auto_resolve_timeout")}),
        ("Who is told", {"fields": ("notification_channels",)}),
        (
            "What became of it",
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
        shown = rule.versions.all()[:SHOWN]
        lines = ((one.version, f"{one.at:%Y-%m-%d %H:%M} UTC", one.by, one.note) for one in shown)
        return format_html_join("", "<div>{}: {}, {} {}</div>", lines)

    def save_model(self, request: HttpRequest, obj: Rule, form: Any, change: bool) -> None:
        by, fields = caller_of(request.user).name, lifecycle.document_of(obj)
        taken_over(obj, lifecycle.change(obj, fields, by) if change else lifecycle.create(fields, by))

    def delete_model(self, request: HttpRequest, obj: Rule) -> None:
        lifecycle.delete(obj, caller_of(request.user).name)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Rule]) -> None:
        for rule in queryset[:MOST_AT_ONCE]:
            lifecycle.delete(rule, caller_of(request.user).name)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[list[str], dict[str, int], set[str], list]:
        """The rules; their versions would be a line each, and their alerts stay."""
        names = [str(rule) for rule in objs[: MOST_AT_ONCE + 1]]
        if len(names) > MOST_AT_ONCE:
            return names[:MOST_AT_ONCE], {}, set(), [f"over {MOST_AT_ONCE:,} rules: choose fewer at a time"]
        return names, {"alert rules, with all their versions": len(names)}, set(), []

    @admin.action(description="Enable", permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[Rule]) -> None:
        self._enable(request, queryset, True)

    @admin.action(description="Disable", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[Rule]) -> None:
        self._enable(request, queryset, False)

    def _enable(self, request: HttpRequest, queryset: QuerySet[Rule], enabled: bool) -> None:
        by = caller_of(request.user).name
        chosen = list(queryset[: MOST_AT_ONCE + 1])
        for rule in chosen[:MOST_AT_ONCE]:
            lifecycle.change(rule, {"enabled": enabled}, by)
        word = "enabled" if enabled else "disabled"
        self.message_user(request, f"{len(chosen[:MOST_AT_ONCE]):,} rules are {word}.", messages.SUCCESS)
        if len(chosen) > MOST_AT_ONCE:
            self.message_user(request, "There are more: choose again.", messages.WARNING)
