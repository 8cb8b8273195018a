"""Devices and the groups that they are in."""

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

from metrics.admin.bounded import FirstFewFilter
from metrics.devices import group_membership as membership
from metrics.devices.delete_device import delete_device
from metrics.models import Device, DeviceGroup
from rest.caller import caller_of

MOST_DELETED = 500  # devices of one request


class DeviceActionForm(ActionForm):
    """The group that devices are put into or taken out of; found by typing, since there may be thousands."""

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
        "Whatever sends measurements. Devices are made when they first send something, or here beforehand. Whoever is"
        " no admin sees the devices of the groups that they are members of."
    )
    list_display = ("device_id", "name", "device_type", "expected_interval", "created_at")
    list_filter = (("groups", FirstFewFilter),)
    search_fields = ("^device_id", "name")
    search_help_text = "The beginning of an id, or words of a name."
    list_per_page = 50
    autocomplete_fields = ("groups",)
    readonly_fields = ("created_at",)
    show_full_result_count = False  # counting a hundred thousand devices is not worth a page's time
    action_form = DeviceActionForm
    actions = ("add_to_group", "remove_from_group")

    def get_readonly_fields(self, request: HttpRequest, obj: Device | None = None) -> tuple[str, ...]:
        return ("created_at",) if obj is None else ("device_id", "created_at")

    def delete_model(self, request: HttpRequest, obj: Device) -> None:
        delete_device(obj.device_id, caller_of(request.user))  # with its measurements, which are more than a row

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Device]) -> None:
        by = caller_of(request.user)
        for device_id in list(queryset.order_by().values_list("device_id", flat=True)[:MOST_DELETED]):
            delete_device(device_id, by)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[list[str], dict[str, int], set[str], list]:
        """The devices; their series and keys would be a line for each of many."""
        names = [str(device) for device in objs[: MOST_DELETED + 1]]
        if len(names) > MOST_DELETED:
            return names[:MOST_DELETED], {}, set(), [f"over {MOST_DELETED:,} devices: choose fewer at a time"]
        return names, {"devices, with all their measurements": len(names)}, set(), []

    @admin.action(description="Add to group …", permissions=["change"])
    def add_to_group(self, request: HttpRequest, queryset: QuerySet[Device]) -> None:
        if group := self._chosen(request):
            made = membership.add(group, _numbers(queryset))
            self.message_user(request, f"{made:,} devices are in {group} now.", messages.SUCCESS)

    @admin.action(description="Remove from group …", permissions=["change"])
    def remove_from_group(self, request: HttpRequest, queryset: QuerySet[Device]) -> None:
        if group := self._chosen(request):
            gone = membership.remove(group, _numbers(queryset))
            self.message_user(request, f"{gone:,} devices are no longer in {group}.", messages.SUCCESS)

    def _chosen(self, request: HttpRequest) -> DeviceGroup | None:
        chosen = request.POST.get("group")  # the action form has checked that there is one
        if not chosen:
            self.message_user(request, "Choose the group that is meant.", messages.WARNING)
            return None
        return DeviceGroup.objects.get(pk=chosen)


def _numbers(devices: QuerySet[Device]) -> Any:
    return devices.order_by().values_list("pk", flat=True).distinct().iterator()


def _devices_in(groups: Iterable[int]) -> dict[int, int]:
    """How many devices are in each of these groups; those without are left out."""
    membership = Device.groups.through.objects.filter(devicegroup__in=list(groups)).order_by()
    return dict(membership.values_list("devicegroup").annotate(Count("pk")))


@admin.register(DeviceGroup)
class DeviceGroupAdmin(admin.ModelAdmin):
    help = (
        "Devices that belong together, and the people who see them. Devices are put into groups from the list of"
        " devices, many at once: a group of a hundred thousand fits no form."
    )
    list_display = ("name", "description", "device_count", "created_at")
    search_fields = ("name", "description")
    list_per_page = 50
    show_full_result_count = False
    autocomplete_fields = ("members",)
    readonly_fields = ("device_count", "created_at")

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """The devices of the groups that are shown are counted, and not those of all groups."""
        shown = super().get_changelist_instance(request)
        counted = _devices_in(group.pk for group in shown.result_list)
        for group in shown.result_list:
            group.counted = counted.get(group.pk, 0)
        return shown

    @admin.display(description="devices")
    def device_count(self, group: DeviceGroup) -> str:
        address = reverse("admin:metrics_device_changelist")
        number = group.counted if hasattr(group, "counted") else _devices_in([group.pk]).get(group.pk, 0)
        return format_html('<a href="{}?groups__id__exact={}">{}</a>', address, group.pk, f"{number:,}")

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        for group in queryset:  # one by one, so that every process is told
            group.delete()

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[list[str], dict[str, int], set[str], list]:
        """Only the groups and how much else goes: who was in them would be one line for each of many devices."""
        names = [str(group) for group in objs]
        counts = {"device groups": len(names)}
        for relation in DeviceGroup._meta.related_objects:
            if relation.one_to_many:
                found = relation.related_model._base_manager.filter(**{f"{relation.field.name}__in": objs})
                counts[str(relation.related_model._meta.verbose_name_plural)] = found.count()
        return names, {what: number for what, number in counts.items() if number}, set(), []
