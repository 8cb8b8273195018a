"""Admin pages of devices and device groups."""

from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.contrib.admin.widgets import AutocompleteSelect
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from metrics.admin.base import FirstFewFilter
from metrics.devices import group_membership
from metrics.devices.delete_device import delete_device
from metrics.models import Device, DeviceGroup
from rest.caller import caller_of

MAX_DELETED_DEVICES = 500  # per request


class DeviceActionForm(ActionForm):
    """The group to add devices to or remove them from; autocompleted, since there may be thousands."""

    group = forms.ModelChoiceField(
        DeviceGroup.objects.all(),
        required=False,
        widget=AutocompleteSelect(
            Device._meta.get_field("groups"), admin.site, attrs={"data-placeholder": "group", "aria-label": "group"}
        ),
    )


@admin.register(Device)
class DeviceAdmin(admin.ModelAdmin):
    help = (
        "Devices are created when they first send points, or here in advance. Users who are not admins see the devices"
        " of the groups that they are members of."
    )
    list_display = ("device_id", "name", "device_type", "expected_interval", "created_at")
    list_filter = (("groups", FirstFewFilter),)
    search_fields = ("^device_id", "name")
    search_help_text = "Beginning of a device ID, or words of a name."
    list_per_page = 50
    autocomplete_fields = ("groups",)
    readonly_fields = ("created_at",)
    show_full_result_count = False  # counting a hundred thousand devices takes too long
    action_form = DeviceActionForm
    actions = ("add_to_group", "remove_from_group")

    def get_readonly_fields(self, request: HttpRequest, obj: Device | None = None) -> tuple[str, ...]:
        return ("created_at",) if obj is None else ("device_id", "created_at")

    def delete_model(self, request: HttpRequest, obj: Device) -> None:
        delete_device(obj.device_id, caller_of(request.user))  # with all its points

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Device]) -> None:
        by = caller_of(request.user)
        for device_id in list(queryset.order_by().values_list("device_id", flat=True)[:MAX_DELETED_DEVICES]):
            delete_device(device_id, by)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[list[str], dict[str, int], set[str], list]:
        """Return only the devices, since their series and keys would be thousands of lines."""
        names = [str(device) for device in objs[: MAX_DELETED_DEVICES + 1]]
        if len(names) > MAX_DELETED_DEVICES:
            return names[:MAX_DELETED_DEVICES], {}, set(), [f"more than {MAX_DELETED_DEVICES:,} devices: select fewer"]
        return names, {"devices, with all their points": len(names)}, set(), []

    @admin.action(description="Add to group …", permissions=["change"])
    def add_to_group(self, request: HttpRequest, queryset: QuerySet[Device]) -> None:
        if group := self._selected_group(request):
            added = group_membership.add_devices(group, _primary_keys(queryset))
            self.message_user(request, f"{added:,} devices were added to {group}.", messages.SUCCESS)

    @admin.action(description="Remove from group …", permissions=["change"])
    def remove_from_group(self, request: HttpRequest, queryset: QuerySet[Device]) -> None:
        if group := self._selected_group(request):
            removed = group_membership.remove_devices(group, _primary_keys(queryset))
            self.message_user(request, f"{removed:,} devices were removed from {group}.", messages.SUCCESS)

    def _selected_group(self, request: HttpRequest) -> DeviceGroup | None:
        primary_key = request.POST.get("group")  # validated by the action form
        if not primary_key:
            self.message_user(request, "Choose a group.", messages.WARNING)
            return None
        return DeviceGroup.objects.get(pk=primary_key)


def _primary_keys(devices: QuerySet[Device]) -> Any:
    return devices.order_by().values_list("pk", flat=True).distinct().iterator()


def _count_devices(groups: Iterable[int]) -> dict[int, int]:
    """Return the number of devices by group; groups without devices are missing."""
    membership = Device.groups.through.objects.filter(devicegroup__in=list(groups)).order_by()
    return dict(membership.values_list("devicegroup").annotate(Count("pk")))


@admin.register(DeviceGroup)
class DeviceGroupAdmin(admin.ModelAdmin):
    help = (
        "Devices, and the users who see them. Add devices to groups from the list of devices, many at once: a form"
        " cannot hold a group of a hundred thousand devices."
    )
    list_display = ("name", "description", "device_count", "created_at")
    search_fields = ("name", "description")
    list_per_page = 50
    show_full_result_count = False
    autocomplete_fields = ("members",)
    readonly_fields = ("device_count", "created_at")

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Count the devices of the groups on this page only."""
        page = super().get_changelist_instance(request)
        counts = _count_devices(group.pk for group in page.result_list)
        for group in page.result_list:
            group.counted = counts.get(group.pk, 0)
        return page

    @admin.display(description="devices")
    def device_count(self, group: DeviceGroup) -> str:
        address = reverse("admin:metrics_device_changelist")
        number = group.counted if hasattr(group, "counted") else _count_devices([group.pk]).get(group.pk, 0)
        return format_html('<a href="{}?groups__id__exact={}">{}</a>', address, group.pk, f"{number:,}")

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        for group in queryset:  # one by one, so that the caches of all processes are invalidated
            group.delete()

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[list[str], dict[str, int], set[str], list]:
        """Return the groups and counts of other objects, since memberships would be thousands of lines."""
        names = [str(group) for group in objs]
        counts = {"device groups": len(names)}
        for relation in DeviceGroup._meta.related_objects:
            if relation.one_to_many:
                rows = relation.related_model._base_manager.filter(**{f"{relation.field.name}__in": objs})
                counts[str(relation.related_model._meta.verbose_name_plural)] = rows.count()
        return names, {name: count for name, count in counts.items() if count}, set(), []
