"""Admin pages of metric definitions."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest

from metrics.models import LONGEST_RETENTION_DAYS, MetricDefinition


class RetentionActionForm(ActionForm):
    """Retention of the selected metrics in days."""

    days = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=LONGEST_RETENTION_DAYS,
        widget=forms.NumberInput(attrs={"placeholder": "days", "aria-label": "days"}),
    )


@admin.register(MetricDefinition)
class MetricDefinitionAdmin(admin.ModelAdmin):
    help = (
        "Type, unit, bounds and retention of metrics. Points of the wrong type or outside the bounds are rejected;"
        " metrics without a definition are numeric and have no bounds. A change takes effect within a second."
    )
    list_display = ("name", "data_type", "metric_type", "unit", "min_value", "max_value", "retention_days")
    list_filter = ("data_type", "metric_type")
    search_fields = ("name", "description")
    list_per_page = 50
    show_full_result_count = False
    action_form = RetentionActionForm
    actions = ("change_retention",)
    fieldsets = (
        (None, {"fields": ("name", "description", "data_type", "metric_type", "unit")}),
        (
            "Bounds",
            {"fields": ("min_value", "max_value"), "description": "Optional, for numeric metrics."},
        ),
        (
            "Retention",
            {
                "fields": ("retention_days", "rollup_5m_days", "rollup_1h_days"),
                "description": "Days (UTC). When the retention is shortened, older points are deleted within a minute.",
            },
        ),
        ("Metadata", {"fields": ("aggregation_interval", "tags", "metadata")}),
        ("History", {"fields": ("metric_id", "created_at", "updated_at", "created_by")}),
    )
    readonly_fields = ("metric_id", "created_at", "updated_at", "created_by")

    def get_readonly_fields(self, request: HttpRequest, obj: MetricDefinition | None = None) -> tuple[str, ...]:
        # Points are stored under the name.
        return self.readonly_fields if obj is None else ("name", *self.readonly_fields)

    def save_model(self, request: HttpRequest, obj: MetricDefinition, form: object, change: bool) -> None:
        if not change:
            obj.created_by = request.user.get_username()
        obj.save()

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        for definition in queryset:  # one by one, so that the caches of all processes are invalidated
            definition.delete()

    @admin.action(description="Change retention to … days", permissions=["change"])
    def change_retention(self, request: HttpRequest, queryset: QuerySet[MetricDefinition]) -> None:
        days = request.POST.get("days")  # validated by the action form
        if not days:
            self.message_user(request, "Enter the number of days.", messages.WARNING)
            return
        try:
            with transaction.atomic():
                changed = [_set_retention(definition, int(days)) for definition in queryset.select_for_update()]
        except ValidationError as error:
            self.message_user(request, f"No metric was changed: {'; '.join(error.messages)}", messages.ERROR)
            return
        self.message_user(request, f"Retention of {len(changed):,} metrics is now {days} days.", messages.SUCCESS)


def _set_retention(definition: MetricDefinition, days: int) -> MetricDefinition:
    definition.retention_days = days
    try:
        definition.full_clean()
    except ValidationError as error:
        raise ValidationError([f"{definition.name}: {message}" for message in error.messages]) from None
    definition.save()
    return definition
