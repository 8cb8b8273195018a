"""Device groups: their members and their devices.

A caller sees its own groups. `admin` creates, changes and deletes groups; scope `operate` adds and removes devices that
the caller sees. The name of a group cannot be changed: API keys and queries refer to it.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models import Count, QuerySet
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.validators import UniqueValidator

from metrics.api import examples
from metrics.api.devices import DeviceSerializer, serialize_devices
from metrics.devices import group_membership
from metrics.models import Device, DeviceGroup
from rest.fields import NewName, StrictSerializer, name_field
from rest.filters import FilterSet, SearchFilter
from rest.idempotency import idempotent
from rest.names import id_error
from rest.openapi import Tag, operation
from rest.pagination import COUNT_LIMIT, PageQuerySerializer
from rest.resources import Action, Resource, describe
from rest.responses import ResponseSerializer, page_example

MAX_MEMBERS = 10_000
MAX_DEVICES = 10_000  # added or removed in one request
MAX_UNKNOWN_DEVICES = 100  # named in an error
NAME_TAKEN = "a group with this name already exists"


class MembersField(serializers.ListField):
    """User names of the members of a group."""

    child = serializers.CharField()

    def get_attribute(self, group: DeviceGroup) -> list[str]:
        return sorted(person.get_username() for person in group.members.all())

    def to_internal_value(self, data: Any) -> Any:
        names = super().to_internal_value(data)
        people = {person.get_username(): person for person in get_user_model().objects.filter(username__in=names)}
        if unknown := [name for name in names if name not in people]:
            raise serializers.ValidationError(f"{unknown[0]!r:.80} is not a user name")
        return list(people.values())


@extend_schema_serializer(component_name="DeviceGroup")
class GroupSerializer(StrictSerializer, serializers.ModelSerializer[DeviceGroup]):
    name = name_field(validators=[NewName(id_error), UniqueValidator(DeviceGroup.objects.all(), NAME_TAKEN)])
    description = serializers.CharField(max_length=10_000, allow_blank=True, required=False)
    members = MembersField(
        max_length=MAX_MEMBERS, required=False, help_text="User names of people who see its devices."
    )
    devices = serializers.SerializerMethodField(help_text="Number of devices in the group.")

    class Meta:
        model = DeviceGroup
        fields = ("name", "description", "members", "devices", "created_at", "updated_at")
        read_only_fields = ("created_at", "updated_at")

    def get_devices(self, group: DeviceGroup) -> int:
        count: int = self.context["device_counts"].get(group.pk, 0)
        return count

    def validate_name(self, name: str) -> str:
        if self.instance is not None and name != self.instance.name:
            raise serializers.ValidationError("cannot be changed: API keys and queries refer to it")
        return name


class GroupFilters(FilterSet):
    search = SearchFilter(
        "name__icontains", "description__icontains", max_length=200, help_text="Text in the name or description."
    )


@describe(
    Tag.DEVICES,
    list=Action(
        "list_groups",
        "List device groups",
        "Returns a page of the groups that the caller sees, sorted by name.",
        request={"search": "site"},
        response=page_example("groups", examples.CREATED_GROUP),
    ),
    create=Action(
        "create_group",
        "Create a device group",
        "Devices are added by their IDs, or through the field `groups` of a device.",
        request=examples.GROUP,
        response=examples.CREATED_GROUP | {"devices": 0},
    ),
    retrieve=Action(
        "get_group",
        "Get a device group",
        "Returns the members of the group and its number of devices.",
        response=examples.CREATED_GROUP,
    ),
    partial_update=Action(
        "update_group",
        "Change a device group",
        "Omitted fields keep their values. A change of members takes effect within a second.",
        request={"members": ["operator_1"]},
        response=examples.CREATED_GROUP,
    ),
    destroy=Action(
        "delete_group",
        "Delete a device group",
        "The devices are kept. API keys that are bound to the group become invalid.",
        response={"success": True, "message": "site a is deleted; its devices stay"},
    ),
)
class GroupResource(Resource):
    serializer_class = GroupSerializer
    filterset_class = GroupFilters
    lookup_field = "name"
    rows_field = "groups"
    unique_error = ("name", NAME_TAKEN)

    def get_queryset(self) -> QuerySet[DeviceGroup]:
        return DeviceGroup.objects.visible_to(self.caller).prefetch_related("members").order_by("name")

    def represent(self, rows: Sequence[DeviceGroup], query: PageQuerySerializer | None = None) -> Any:
        memberships = Device.groups.through.objects.filter(devicegroup_id__in=[group.pk for group in rows])
        counts = dict(memberships.values_list("devicegroup_id").annotate(count=Count("*")).order_by())
        return GroupSerializer(rows, many=True, context={"device_counts": counts}).data

    def deleted_message(self, row: DeviceGroup) -> str:
        return f"{row.name} is deleted; its devices stay"


class DeviceIdsSerializer(StrictSerializer):
    device_ids = serializers.ListField(
        child=serializers.CharField(trim_whitespace=False),
        min_length=1,
        max_length=MAX_DEVICES,
        help_text="IDs of devices that the caller sees.",
    )


@extend_schema_serializer(component_name="Moved")
class MembershipChangeSerializer(ResponseSerializer):
    changed = serializers.IntegerField(help_text="Number of devices that were added or removed.")
    devices = serializers.IntegerField(help_text="Number of devices in the group now.")


@describe(
    Tag.DEVICES,
    list=Action(
        "list_group_devices",
        "List the devices of a group",
        f"Returns a page of devices, sorted by ID. `total` is at most {COUNT_LIMIT:,}.",
        response=page_example("devices", examples.CREATED_DEVICE),
    ),
)
class GroupDeviceResource(Resource):
    serializer_class = DeviceSerializer
    is_nested = True
    rows_field = "devices"
    page_name = "GroupDevices"
    count_limit = COUNT_LIMIT
    write_scope = "operate"

    def get_group(self) -> DeviceGroup:
        groups = GroupResource(request=self.request, kwargs=self.kwargs)
        group: DeviceGroup = groups.get_object()
        return group

    def get_queryset(self) -> QuerySet[Device]:
        devices = Device.objects.in_groups(DeviceGroup.objects.filter(pk=self.get_group().pk))
        return devices.visible_to(self.caller).prefetch_related("groups")

    def represent(self, rows: Sequence[Device], query: PageQuerySerializer | None = None) -> Any:
        return serialize_devices(self.request, rows)

    @operation(
        "add_group_devices",
        "Add devices to a group",
        tag=Tag.DEVICES,
        description=f"Up to {MAX_DEVICES:,} devices. If one of them is unknown, none is added.",
        request=DeviceIdsSerializer,
        response=MembershipChangeSerializer,
        errors=(404,),
        request_example={"device_ids": ["device_001"]},
        response_example={"changed": 1, "devices": 1},
    )
    @idempotent
    def add(self, request: Request, name: str) -> Response:
        return self._change_membership(group_membership.add_devices)

    @operation(
        "remove_group_devices",
        "Remove devices from a group",
        tag=Tag.DEVICES,
        description=f"Up to {MAX_DEVICES:,} devices. If one of them is unknown, none is removed.",
        request=DeviceIdsSerializer,
        response=MembershipChangeSerializer,
        errors=(404,),
        request_example={"device_ids": ["device_001"]},
        response_example={"changed": 1, "devices": 0},
    )
    def remove(self, request: Request, name: str) -> Response:
        return self._change_membership(group_membership.remove_devices)

    def _change_membership(self, change: Any) -> Response:
        group = self.get_group()
        fields = self.validate(DeviceIdsSerializer(data=self.request.data))
        with transaction.atomic():
            changed = change(group, self._device_keys(fields["device_ids"]))
        return Response({"changed": changed, "devices": group.devices.count()})

    def _device_keys(self, device_ids: Sequence[str]) -> Iterable[int]:
        """Return the primary keys of devices. Raises ValidationError for unknown ones."""
        visible = Device.objects.visible_to(self.caller)
        keys = dict(visible.filter(device_id__in=device_ids).values_list("device_id", "pk"))
        unknown = [(index, name) for index, name in enumerate(device_ids) if name not in keys]
        if unknown:
            raise serializers.ValidationError(
                {f"device_ids.{index}": f"{name!r:.80} is not known" for index, name in unknown[:MAX_UNKNOWN_DEVICES]}
            )
        return set(keys.values())
