"""Devices: their metadata, which callers see them, and how they are deleted.

A caller sees the devices of its groups. Changes need scope `operate`; creating and deleting devices needs `admin`.
A device ID may contain slashes. A path under `devices/` that ends like another path of the API, such as `…/metrics`,
is that other path.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import django_filters
from django.db import transaction
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.validators import UniqueValidator

from metrics.api import examples
from metrics.api.deletions import DeletionSerializer
from metrics.devices.delete_device import delete_device
from metrics.models import Device, DeviceGroup
from metrics.query import latest
from rest.errors import InvalidField
from rest.fields import BooleanField, MetadataField, NewName, StrictSerializer, TagsField, name_field
from rest.filters import FilterSet, SearchFilter, TextFilter
from rest.names import id_error, name_error
from rest.openapi import Tag, operation
from rest.pagination import COUNT_LIMIT, PageQuerySerializer
from rest.permissions import caller
from rest.resources import Action, Resource, describe

MAX_GROUPS = 100
MAX_INTERVAL = 366 * 86_400  # seconds
ID_TAKEN = "a device with this ID already exists"


class GroupsField(serializers.ListField):
    """Names of a device's groups, limited to those that the caller sees."""

    child = serializers.CharField()

    def get_attribute(self, device: Device) -> list[str]:
        viewer = caller(self.context["request"])
        names = [group.name for group in device.groups.all()]
        return [] if viewer.device_id is not None else sorted(viewer.narrowed(names) or ())

    def to_internal_value(self, data: Any) -> Any:
        names = super().to_internal_value(data)
        visible = DeviceGroup.objects.visible_to(caller(self.context["request"])).filter(name__in=names)
        groups = {group.name: group for group in visible}
        if unknown := [name for name in names if name not in groups]:
            raise serializers.ValidationError(f"{unknown[0]!r:.80} is not known")
        return list(groups.values())


@extend_schema_serializer(component_name="Device")
class DeviceSerializer(StrictSerializer, serializers.ModelSerializer[Device]):
    """Reads `request` and, for responses, `last_seen` by device from its context."""

    device_id = name_field(validators=[NewName(id_error), UniqueValidator(Device.objects.all(), ID_TAKEN)])
    name = name_field(allow_blank=True, required=False, validators=[NewName(name_error)], help_text="Display name.")
    device_type = name_field(allow_blank=True, required=False, help_text="Type of the device.")
    description = serializers.CharField(max_length=10_000, allow_blank=True, required=False)
    location = name_field(allow_blank=True, required=False, help_text="Location as text.")
    latitude = serializers.FloatField(min_value=-90, max_value=90, allow_null=True, required=False)
    longitude = serializers.FloatField(min_value=-180, max_value=180, allow_null=True, required=False)
    expected_interval = serializers.IntegerField(
        min_value=1,
        max_value=MAX_INTERVAL,
        allow_null=True,
        required=False,
        help_text="Seconds between points, from which the device state (online, late, offline) follows.",
    )
    tags = TagsField(required=False)
    metadata = MetadataField(required=False)
    groups = GroupsField(max_length=MAX_GROUPS, required=False, help_text="Device groups, as far as the caller sees.")
    last_seen = serializers.SerializerMethodField(help_text="Time of the newest point; null if there is none.")

    class Meta:
        model = Device
        fields = (
            "device_id", "name", "device_type", "description", "location", "latitude", "longitude",
            "expected_interval", "tags", "metadata", "groups", "created_at", "updated_at", "last_seen",
        )  # fmt: skip
        read_only_fields = ("created_at", "updated_at")

    def get_last_seen(self, device: Device) -> datetime | None:
        last_seen: datetime | None = self.context["last_seen"].get(device.device_id)
        return last_seen

    def validate_device_id(self, device_id: str) -> str:
        if self.instance is not None and device_id != self.instance.device_id:
            raise serializers.ValidationError("cannot be changed: points are stored under it")
        return device_id

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        attributes = super().validate(attributes)
        position = [attributes.get(name, getattr(self.instance, name, None)) for name in ("latitude", "longitude")]
        if position.count(None) == 1:
            missing = "latitude" if position[0] is None else "longitude"
            raise InvalidField(missing, "latitude and longitude are required together")
        return attributes

    def save(self, **values: Any) -> Device:
        """Save the device; groups that the caller does not see are kept."""
        groups = self.validated_data.pop("groups", None)
        device: Device = super().save(**values)
        if groups is not None:
            visible = DeviceGroup.objects.visible_to(caller(self.context["request"]))
            hidden = device.groups.exclude(pk__in=visible.values("pk"))
            device.groups.set([*groups, *hidden])
        return device


class TagFilter(django_filters.Filter):
    field_class = serializers.RegexField

    def __init__(self, **options: Any) -> None:
        super().__init__(regex=r"^[^:]*:", error_messages={"invalid": "must be name:value"}, **options)

    def filter(self, devices: QuerySet[Device], tag: str) -> QuerySet[Device]:
        name, _, value = tag.partition(":")
        return devices.filter(tags__contains={name: value})


class DeviceFilters(FilterSet):
    search = SearchFilter(
        "device_id__istartswith",  # an index serves both
        "name__istartswith",
        max_length=200,
        help_text="Beginning of the device ID or name.",
    )
    group = TextFilter(method="filter_group", help_text="Name of a device group.")
    device_type = TextFilter(help_text="Device type, exactly as stored.")
    tag = TagFilter(help_text="Tag of the device, as `name:value`.")

    def filter_group(self, devices: Any, _: str, name: str) -> QuerySet[Device]:
        groups = DeviceGroup.objects.visible_to(caller(self.request)).filter(name=name)
        in_groups: QuerySet[Device] = devices.in_groups(groups)
        return in_groups


class DeviceQuerySerializer(PageQuerySerializer):
    last_seen = BooleanField(
        default=True, help_text="Whether to look up `last_seen`; with false it is null and the list is faster."
    )


def serialize_devices(request: Request, devices: Sequence[Device], with_last_seen: bool = True) -> Any:
    """Return devices as JSON; reads their last-seen times in one query."""
    last_seen = latest.read_last_seen_times([device.device_id for device in devices]) if with_last_seen else {}
    return DeviceSerializer(devices, many=True, context={"request": request, "last_seen": last_seen}).data


@describe(
    Tag.DEVICES,
    list=Action(
        "list_devices",
        "List devices",
        f"Returns a page of devices, sorted by ID. `total` is at most {COUNT_LIMIT:,}.",
        request={"group": "site a", "limit": 100},
        response=examples.DEVICES,
    ),
    create=Action(
        "create_device",
        "Create a device",
        "Creates a device before it sends its first point. Unknown devices that send points are created automatically"
        " where the installation allows it.",
        request=examples.DEVICE,
        response=examples.CREATED_DEVICE | {"last_seen": None},
    ),
    retrieve=Action(
        "get_device",
        "Get a device",
        "An API key that is bound to a device may read that device, whatever its scope.",
        response=examples.CREATED_DEVICE,
    ),
    partial_update=Action(
        "update_device",
        "Change a device",
        "Omitted fields keep their values. `groups` replaces the groups that the caller sees. The ID cannot be"
        " changed.",
        request={"name": "Press 1", "tags": {"line": "2"}},
        response=examples.CREATED_DEVICE,
    ),
)
class DeviceResource(Resource):
    serializer_class = DeviceSerializer
    filterset_class = DeviceFilters
    query_class = DeviceQuerySerializer
    lookup_field = "device_id"
    rows_field = "devices"
    echo_filters = "all"
    count_limit = COUNT_LIMIT
    action_scopes = {"partial_update": "operate"}
    unique_error = ("device_id", ID_TAKEN)  # also when the device sends its first point meanwhile

    def get_queryset(self) -> QuerySet[Device]:
        return Device.objects.visible_to(self.caller).prefetch_related("groups")

    def represent(self, rows: Sequence[Device], query: PageQuerySerializer | None = None) -> Any:
        return serialize_devices(self.request, rows, query is None or query.validated_data["last_seen"])

    @operation(
        "delete_device",
        "Delete a device and all its points",
        tag=Tag.DEVICES,
        description="The device disappears from all responses at once, and API keys that are bound to it become"
        " invalid."
        " Its points are deleted from storage in the background. Points that it sends from then on create a new device."
        " Repeating the request meanwhile returns the same deletion.",
        response=DeletionSerializer,
        status=202,
        errors=(404, 412),
        response_example=examples.DELETION,
    )
    def destroy(self, request: Request, **names: Any) -> Response:
        with transaction.atomic():
            if "If-Match" in request.headers:
                self.lock_object()
            deletion = delete_device(names["device_id"], self.caller)
        return Response(DeletionSerializer(deletion).data, status.HTTP_202_ACCEPTED)
