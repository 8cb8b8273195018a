"""Admin of routes."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from alerts.admin.forms import ArrayFieldAdmin, ValidatedModelForm, copy_saved_values
from alerts.models import Route
from alerts.notifications import channel_lifecycle
from rest.caller import caller_of


class RouteForm(ValidatedModelForm):
    class Meta:
        model = Route
        fields = channel_lifecycle.ROUTE_FIELDS

    def clean_escalation(self) -> list[Any]:
        return self.cleaned_data["escalation"] or []

    def check(self) -> None:
        channel_lifecycle.check_route(self.instance)


@admin.register(Route)
class RouteAdmin(ArrayFieldAdmin):
    help = "Send alerts to channels in addition to those of their rules, repeat them, and escalate unacknowledged ones."
    form = RouteForm
    list_display = ("name", "enabled", "levels", "device_groups", "channels", "repeat_minutes")
    list_filter = ("enabled",)
    search_fields = ("name", "=route_id")
    fields = (*channel_lifecycle.ROUTE_FIELDS, "route_id", "created_by", "created_at", "updated_at")
    readonly_fields = ("route_id", "created_by", "created_at", "updated_at")

    def save_model(self, request: HttpRequest, obj: Route, form: Any, change: bool) -> None:
        fields = {name: getattr(obj, name) for name in channel_lifecycle.ROUTE_FIELDS}
        if change:
            saved = channel_lifecycle.change_route(obj, fields)
        else:
            saved = channel_lifecycle.create_route(fields, caller_of(request.user).name)
        copy_saved_values(obj, saved)

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        for route in queryset:  # one by one: the audit log records each
            route.delete()
