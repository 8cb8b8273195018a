"""What an admin sets up of devices and metrics."""

from django.contrib import admin
from django.http import HttpRequest

from metrics.models import Device, MetricDefinition


@admin.register(Device)
class DeviceAdmin(admin.ModelAdmin):
    list_display = ("device_id", "name", "expected_interval", "created_at")
    search_fields = ("device_id", "name")
    readonly_fields = ("created_at",)
    show_full_result_count = False  # counting a hundred thousand devices is not worth a page's time

    def get_readonly_fields(self, request: HttpRequest, obj: Device | None = None) -> tuple[str, ...]:
        return ("created_at",) if obj is None else ("device_id", "created_at")

    def has_delete_permission(self, request: HttpRequest, obj: Device | None = None) -> bool:
        return False  # a device goes together with its measurements, which is more than a row


@admin.register(MetricDefinition)
class MetricDefinitionAdmin(admin.ModelAdmin):
    list_display = ("name", "data_type", "metric_type", "unit", "min_value", "max_value", "retention_days")
    list_filter = ("data_type", "metric_type")
    search_fields = ("name", "description")
    readonly_fields = ("metric_id", "created_at", "updated_at", "created_by")

    def save_model(self, request: HttpRequest, obj: MetricDefinition, form: object, change: bool) -> None:
        if not change:
            obj.created_by = request.user.get_username()
        obj.save()

    def delete_queryset(self, request: HttpRequest, queryset: object) -> None:
        for definition in queryset:  # type: ignore[attr-defined]  # one by one, so that every process is told
            definition.delete()
