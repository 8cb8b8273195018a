"""Admin of status pages with the validation of the API. Incidents are written on the pages for operators."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from alerts.admin.forms import ArrayFieldAdmin, ValidatedModelForm, copy_saved_values
from dashboard.status_page import incidents, lifecycle
from dashboard.status_page.models import (
    IncidentTemplate,
    StatusComponent,
    StatusDelivery,
    StatusIncident,
    StatusPage,
    StatusSubscriber,
)
from metrics.admin.base import BoundedPaginator, ReadOnlyAdmin
from rest.caller import Caller, caller_of


class StatusPageForm(ValidatedModelForm):
    class Meta:
        model = StatusPage
        fields = lifecycle.PAGE_FIELDS

    def check(self) -> None:
        lifecycle.check_page(self.instance)

    def clean_host_name(self) -> str | None:
        return (self.cleaned_data["host_name"] or "").lower() or None


@admin.register(StatusPage)
class StatusPageAdmin(ArrayFieldAdmin):
    help = "Public pages with the state of components. Nothing is public unless a component names it."
    form = StatusPageForm
    list_display = ("title", "slug", "host_name", "published", "time_zone")
    list_filter = ("published",)
    search_fields = ("title", "slug", "=page_id")
    fields = (*lifecycle.PAGE_FIELDS, "page_id", "created_by", "created_at", "updated_at")
    readonly_fields = ("page_id", "created_by", "created_at", "updated_at")

    def save_model(self, request: HttpRequest, obj: StatusPage, form: Any, change: bool) -> None:
        fields = {name: getattr(obj, name) for name in lifecycle.PAGE_FIELDS}
        caller = caller_of(request.user)
        copy_saved_values(obj, lifecycle.change_page(obj, fields) if change else lifecycle.create_page(fields, caller))

    def delete_model(self, request: HttpRequest, obj: StatusPage) -> None:
        lifecycle.delete_page(obj)

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        for page in queryset:  # one by one: the audit log records each
            lifecycle.delete_page(page)


class StatusComponentForm(ValidatedModelForm):
    class Meta:
        model = StatusComponent
        fields = ("page", *lifecycle.COMPONENT_FIELDS)

    def check(self) -> None:
        lifecycle.check_component(self.instance, Caller.internal("admin"))


@admin.register(StatusComponent)
class StatusComponentAdmin(ArrayFieldAdmin):
    help = "Parts of status pages, measured by the alerts that match each list that is not empty. Without any: a group."
    form = StatusComponentForm
    list_display = ("name", "page", "parent", "device_groups", "mode")
    list_filter = ("mode",)
    list_select_related = ("page", "parent")
    search_fields = ("name", "=component_id")
    raw_id_fields = ("page", "parent")
    fields = ("page", *lifecycle.COMPONENT_FIELDS, "component_id", "created_at", "updated_at")
    readonly_fields = ("component_id", "created_at", "updated_at")

    def get_readonly_fields(self, request: HttpRequest, obj: StatusComponent | None = None) -> Any:
        return (*self.readonly_fields, *(("page",) if obj is not None else ()))

    def save_model(self, request: HttpRequest, obj: StatusComponent, form: Any, change: bool) -> None:
        fields = {name: getattr(obj, name) for name in lifecycle.COMPONENT_FIELDS}
        caller = caller_of(request.user)
        if change:
            saved = lifecycle.change_component(obj, fields, caller)
        else:
            saved = lifecycle.create_component(obj.page, fields, caller)
        copy_saved_values(obj, saved)

    def delete_model(self, request: HttpRequest, obj: StatusComponent) -> None:
        lifecycle.delete_component(obj)

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        for pk in list(queryset.values_list("pk", flat=True)):  # a deleted group takes its components with it
            for component in StatusComponent.objects.filter(pk=pk):
                lifecycle.delete_component(component)


class IncidentTemplateForm(ValidatedModelForm):
    class Meta:
        model = IncidentTemplate
        fields = ("page", "name", "kind", "title", "status", "impact", "text")

    def check(self) -> None:
        incidents.check_template(self.instance)


@admin.register(IncidentTemplate)
class IncidentTemplateAdmin(admin.ModelAdmin):
    help = "Texts that incidents and maintenance of a status page may begin with."
    form = IncidentTemplateForm
    list_display = ("name", "page", "kind", "title")
    list_filter = ("kind",)
    list_select_related = ("page",)
    search_fields = ("name", "title")
    raw_id_fields = ("page",)
    list_per_page = 50
    show_full_result_count = False


@admin.register(StatusIncident)
class StatusIncidentAdmin(ReadOnlyAdmin):
    help = "Incidents and planned maintenance of status pages. Write and change them under Status pages of the site."
    list_display = ("title", "page", "kind", "status", "impact", "starts_at", "ends_at")
    list_filter = ("kind", "status")
    list_select_related = ("page",)
    search_fields = ("title", "=incident_id")


@admin.register(StatusSubscriber)
class StatusSubscriberAdmin(ReadOnlyAdmin):
    help = "Addresses that are notified of the updates of a status page. Deleting one ends its subscription."
    list_display = ("address", "kind", "page", "confirmed_at", "created_at")
    list_filter = ("kind",)
    list_select_related = ("page",)
    search_fields = ("address",)
    exclude = ("requested",)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)


@admin.register(StatusDelivery)
class StatusDeliveryAdmin(ReadOnlyAdmin):
    help = "Messages to subscribers of status pages. Finished ones are kept for 30 days."
    paginator = BoundedPaginator
    list_display = ("subscriber", "update", "attempts", "due_at", "finished_at", "error")
    list_select_related = ("subscriber", "update")
    search_fields = ("subscriber__address",)
    ordering = ("-id",)
