"""What an admin sets up of devices and metrics."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.db.models import Count, QuerySet
from django.http import HttpRequest

from metrics import membership
from metrics.models import DamagedBlock, Device, DeviceGroup, MetricDefinition
from metrics.query import moment


class DeviceActionForm(ActionForm):
    """The group that devices are added to."""

    group = forms.ModelChoiceField(DeviceGroup.objects.all(), required=False)


@admin.register(Device)
class DeviceAdmin(admin.ModelAdmin):
    list_display = ("device_id", "name", "expected_interval", "created_at")
    list_filter = ("groups",)
    search_fields = ("device_id", "name")
    autocomplete_fields = ("groups",)
    readonly_fields = ("created_at",)
    show_full_result_count = False  # counting a hundred thousand devices is not worth a page's time
    action_form = DeviceActionForm
    actions = ("add_to_group",)

    def get_readonly_fields(self, request: HttpRequest, obj: Device | None = None) -> tuple[str, ...]:
        return ("created_at",) if obj is None else ("device_id", "created_at")

    def has_delete_permission(self, request: HttpRequest, obj: Device | None = None) -> bool:
        return False  # a device goes together with its measurements, which is more than a row

    @admin.action(description="Add to group", permissions=["change"])
    def add_to_group(self, request: HttpRequest, queryset: QuerySet[Device]) -> None:
        chosen = request.POST.get("group")  # the action form has checked that there is one
        if not chosen:
            self.message_user(request, "Choose the group that they are to be added to.", messages.WARNING)
            return
        group = DeviceGroup.objects.get(pk=chosen)
        made = membership.add(group, queryset.order_by().values_list("pk", flat=True).distinct().iterator())
        self.message_user(request, f"{made:,} devices are in {group} now.", messages.SUCCESS)


@admin.register(DeviceGroup)
class DeviceGroupAdmin(admin.ModelAdmin):
    """Devices are put into groups from their own list: a group of a hundred thousand fits no form."""

    list_display = ("name", "description", "device_count", "created_at")
    search_fields = ("name", "description")
    readonly_fields = ("created_at",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[DeviceGroup]:
        return super().get_queryset(request).annotate(counted=Count("devices"))

    @admin.display(description="devices", ordering="counted")
    def device_count(self, group: DeviceGroup) -> int:
        return group.counted  # type: ignore[attr-defined]  # from get_queryset

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[list[str], dict[str, int], set[str], list]:
        """Only the groups: what else goes is who was in them, one line for each of a hundred thousand devices."""
        names = [str(group) for group in objs]
        return names, {"device groups": len(names)}, set(), []


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


@admin.register(DamagedBlock)
class DamagedBlockAdmin(admin.ModelAdmin):
    """What was set aside; a block whose payload is restored from a backup is put back by the next merge."""

    list_display = ("__str__", "shard", "bucket", "date", "series", "points", "found_at")
    fields = (*list_display, "seq_from", "seq_to", "time_from", "time_to")
    readonly_fields = fields
    ordering = ("-found_at",)

    @admin.display(description="day", ordering="time_from")
    def date(self, block: DamagedBlock) -> str:
        first, last = (moment(time).date().isoformat() for time in (block.time_from, block.time_to))
        return first if first == last else f"{first} to {last}"

    @admin.display(description="series", empty_value="not known")
    def series(self, block: DamagedBlock) -> str | None:
        return None if block.series_from is None else f"{block.series_from} to {block.series_to}"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: DamagedBlock | None = None) -> bool:
        return False
