"""Routes of alerts to channels."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from alerts.admin.forms import CheckedForm, ListsAdmin, taken_over
from alerts.models import Route
from alerts.notifications import channel_lifecycle
from rest.caller import caller_of


class RouteForm(CheckedForm):
    class Meta:
        model = Route
        fields = channel_lifecycle.ROUTE_FIELDS

    def clean_escalation(self) -> list[Any]:
        return self.cleaned_data["escalation"] or []

    def check(self) -> None:
        channel_lifecycle.check_route(self.instance)


@admin.register(Route)
class RouteAdmin(ListsAdmin):
    help = "Which alerts go to which channels besides those of their rules, and whom to tell when nobody reacts."
    form = RouteForm
    list_display = ("name", "enabled", "levels", "device_groups", "channels", "repeat_minutes")
    list_filter = ("enabled",)
    search_fields = ("name", "=route_id")
    fields = (*channel_lifecycle.ROUTE_FIELDS, "route_id", "created_by", "created_at", "updated_at")
    readonly_fields = ("route_id", "created_by", "created_at", "updated_at")

    def save_model(self, request: HttpRequest, obj: Route, form: Any, change: bool) -> None:
        fields, by = {name: getattr(obj, name) for name in channel_lifecycle.ROUTE_FIELDS}, caller_of(request.user).name
        taken_over(
            obj, channel_lifecycle.change_route(obj, fields) if change else channel_lifecycle.create_route(fields, by)
        )

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        for route in queryset:  # one by one, so that the audit is told
            route.delete()
