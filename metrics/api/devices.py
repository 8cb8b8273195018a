"""Devices: what is known of them besides their measurements, who sees them, and how they are deleted.

Whoever may read sees the devices of its groups. With scope `operate` those can be changed; `admin` makes and deletes.
A device id may hold slashes: an address under `devices/` that ends like another of the API's (`…/metrics`) is that one.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import django_filters
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers, status
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.validators import UniqueValidator
from rest_framework.views import APIView

from metrics.api import examples
from metrics.api.answers import Page
from metrics.api.deletions import DeletionSerializer
from metrics.devices.delete_device import delete_device
from metrics.models import Device, DeviceGroup
from metrics.query import latest
from rest.caller import Caller
from rest.configuration import Known, MetadataField, TagsField, name_field
from rest.etags import check_match, etag
from rest.idempotency import idempotent
from rest.openapi import Tag, operation, state
from rest.pagination import PageParameters, page
from rest.permissions import caller

COUNTED = 10_000  # where `total` stops: counting a hundred thousand devices is worth nobody's time
MOST_GROUPS = 100
LONGEST_INTERVAL = 366 * 86_400  # seconds
KNOWN = "a device of this id is known already"


class GroupsField(serializers.ListField):
    """The names of a device's groups, of those that the caller in the context sees."""

    child = serializers.CharField()

    def get_attribute(self, device: Device) -> list[str]:
        seen: Caller = self.context["caller"]
        names = [group.name for group in device.groups.all()]
        return [] if seen.device_id is not None else sorted(seen.narrowed(names) or ())

    def to_internal_value(self, data: Any) -> Any:
        names = super().to_internal_value(data)
        visible = DeviceGroup.objects.visible_to(self.context["caller"]).filter(name__in=names)
        found = {group.name: group for group in visible}
        if unknown := [name for name in names if name not in found]:
            raise serializers.ValidationError(f"{unknown[0]!r:.80} is not known")
        return list(found.values())


@extend_schema_serializer(component_name="Device")
class DeviceSerializer(Known, serializers.ModelSerializer[Device]):
    """`last_seen` comes from the context, read for all devices of an answer at once; so does the caller."""

    device_id = name_field(validators=[UniqueValidator(Device.objects.all(), KNOWN)])
    name = name_field(allow_blank=True, required=False, help_text="What people call it.")
    device_type = name_field(allow_blank=True, required=False, help_text="What kind it is.")
    description = serializers.CharField(max_length=10_000, allow_blank=True, required=False)
    location = name_field(allow_blank=True, required=False, help_text="Where it is, in words.")
    latitude = serializers.FloatField(min_value=-90, max_value=90, allow_null=True, required=False)
    longitude = serializers.FloatField(min_value=-180, max_value=180, allow_null=True, required=False)
    expected_interval = serializers.IntegerField(
        min_value=1, max_value=LONGEST_INTERVAL, allow_null=True, required=False, help_text="Seconds between points."
    )
    tags = TagsField(required=False)
    metadata = MetadataField(required=False)
    groups = GroupsField(max_length=MOST_GROUPS, required=False, help_text="Those that the caller sees.")
    last_seen = serializers.SerializerMethodField(help_text="Time of its newest point; null: none yet.")

    class Meta:
        model = Device
        fields = (
            "device_id", "name", "device_type", "description", "location", "latitude", "longitude",
            "expected_interval", "tags", "metadata", "groups", "created_at", "updated_at", "last_seen",
        )  # fmt: skip
        read_only_fields = ("created_at", "updated_at")

    def get_last_seen(self, device: Device) -> datetime | None:
        found: datetime | None = self.context["last_seen"].get(device.device_id)
        return found

    def validate_device_id(self, device_id: str) -> str:
        if self.instance is not None and device_id != self.instance.device_id:
            raise serializers.ValidationError("cannot be changed: points are stored under it")
        if device_id.isspace():
            raise serializers.ValidationError("a text that is not blank is accepted")
        return device_id

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        attributes = super().validate(attributes)
        position = [attributes.get(name, getattr(self.instance, name, None)) for name in ("latitude", "longitude")]
        if position.count(None) == 1:
            missing = "latitude" if position[0] is None else "longitude"
            raise serializers.ValidationError({missing: "latitude and longitude are given together"})
        return attributes

    def save(self, **more: Any) -> Device:
        """With the groups that the caller does not see left as they are."""
        groups = self.validated_data.pop("groups", None)
        device: Device = super().save(**more)
        if groups is not None:
            visible = DeviceGroup.objects.visible_to(self.context["caller"])
            hidden = device.groups.exclude(pk__in=visible.values("pk"))
            device.groups.set([*groups, *hidden])
        return device


def shapes(request: Request, devices: Sequence[Device], with_last_seen: bool = True) -> Any:
    """Devices as the API shows them; their groups come with them."""
    seen = latest.read_last_seen_times([device.device_id for device in devices]) if with_last_seen else {}
    return DeviceSerializer(devices, many=True, context={"caller": caller(request), "last_seen": seen}).data


class DeviceFilter(django_filters.FilterSet):
    search = django_filters.CharFilter(method="beginning", max_length=200)
    group = django_filters.CharFilter(method="in_group")
    device_type = django_filters.CharFilter()
    tag = django_filters.CharFilter(method="tagged")

    class Meta:
        model = Device
        fields = ("search", "group", "device_type", "tag")

    def beginning(self, found: QuerySet[Device], name: str, words: str) -> QuerySet[Device]:
        """Those whose id or name begins so: what an index can tell of a hundred thousand."""
        return found.filter(Q(device_id__istartswith=words) | Q(name__istartswith=words))

    def in_group(self, found: QuerySet[Device], name: str, group: str) -> QuerySet[Device]:
        return found.in_groups(DeviceGroup.objects.visible_to(caller(self.request)).filter(name=group))  # type: ignore[attr-defined]

    def tagged(self, found: QuerySet[Device], name: str, tag: str) -> QuerySet[Device]:
        wanted, colon, value = tag.partition(":")
        if not colon:
            raise serializers.ValidationError({"tag": "name:value is accepted"})
        return found.filter(tags__contains={wanted: value})


class DeviceParameters(PageParameters):
    """What a list of devices is chosen by, for the description of the API; DeviceFilter heeds it."""

    search = serializers.CharField(required=False, max_length=200, help_text="What the id or the name begins with.")
    group = serializers.CharField(required=False, help_text="In this group.")
    device_type = serializers.CharField(required=False, help_text="Exactly this type.")
    tag = serializers.RegexField(r"^[^:]*:", required=False, help_text="With this tag, as `name:value`.")
    last_seen = serializers.BooleanField(
        default=True, help_text="False leaves it null: what a page of a thousand is read for rarely is its last_seen."
    )


class Devices(Page):
    devices = DeviceSerializer(many=True)
    filters = serializers.DictField(
        child=serializers.CharField(allow_null=True), help_text="What was asked for; null where it was not."
    )


class DevicesView(APIView):
    """Which devices there are; make one before it sends."""

    scope_for_changes = "admin"

    @operation(
        "list_devices",
        "Which devices there are",
        tag=Tag.DEVICES,
        description=f"A page of devices by id. `total` counts to {COUNTED:,} and no further.",
        query=DeviceParameters,
        answer=Devices,
        asked={"group": "site a", "limit": 100},
        answered=examples.DEVICES,
    )
    def get(self, request: Request) -> Response:
        visible = Device.objects.visible_to(caller(request)).prefetch_related("groups")
        chosen = DeviceFilter(request.query_params, visible, request=request)
        if not chosen.is_valid():
            raise serializers.ValidationError(chosen.errors)
        given = DeviceParameters(data=request.query_params)
        given.is_valid(raise_exception=True)
        rows, told = page(request, chosen.qs, DeviceParameters, COUNTED)
        shown = shapes(request, rows, given.validated_data["last_seen"])
        filters = {name: request.query_params.get(name) for name in chosen.filters}
        return Response({"devices": shown, **told, "filters": filters})

    @operation(
        "create_device",
        "Make a device known before it sends",
        tag=Tag.DEVICES,
        description="Devices that nobody made are made when they first send, where the installation allows it.",
        request=DeviceSerializer,
        answer=DeviceSerializer,
        status=201,
        parameters=[state(201)],
        asked=examples.DEVICE,
        answered=examples.KNOWN_DEVICE | {"last_seen": None},
    )
    @idempotent
    def post(self, request: Request) -> Response:
        given = DeviceSerializer(data=request.data, context={"caller": caller(request), "last_seen": {}})
        given.is_valid(raise_exception=True)
        try:
            with transaction.atomic():
                made = given.save()
        except IntegrityError:  # it sent for the first time between the check and here
            raise serializers.ValidationError({"device_id": KNOWN}) from None
        return _answer(request, made, status.HTTP_201_CREATED)


class DeviceView(APIView):
    """One device."""

    @property
    def scope_for_changes(self) -> str:
        return "admin" if self.request.method == "DELETE" else "operate"

    @operation(
        "get_device",
        "What is known of a device",
        tag=Tag.DEVICES,
        description="A key that is bound to a device may ask for that one, whatever its scope.",
        answer=DeviceSerializer,
        errors=(404,),
        parameters=[state()],
        answered=examples.KNOWN_DEVICE,
    )
    def get(self, request: Request, device_id: str) -> Response:
        return _answer(request, _known(request, device_id))

    @operation(
        "update_device",
        "Change what is known of a device",
        tag=Tag.DEVICES,
        description="Fields that are not sent stay as they are; `groups` replaces those that the caller sees. The id"
        " cannot be changed.",
        request=DeviceSerializer(partial=True),
        answer=DeviceSerializer,
        errors=(404,),
        asked={"name": "Press 1", "tags": {"line": "2"}},
        answered=examples.KNOWN_DEVICE,
        tagged=True,
    )
    def patch(self, request: Request, device_id: str) -> Response:
        with transaction.atomic():
            found = _known(request, device_id, lock=True)
            check_match(request, found)
            context = {"caller": caller(request), "last_seen": {}}
            given = DeviceSerializer(found, data=request.data, partial=True, context=context)
            given.is_valid(raise_exception=True)
            given.save()
        return _answer(request, Device.objects.prefetch_related("groups").get(pk=found.pk))

    @operation(
        "delete_device",
        "Delete a device with all its measurements",
        tag=Tag.DEVICES,
        description="It is gone from every answer at once, and keys that are bound to it open nothing any more; its"
        " points are taken out of the storage in the background. What it sends from then on is a new device's."
        " Asking again while that goes on answers the same deletion.",
        answer=DeletionSerializer,
        status=202,
        errors=(404, 412),
        answered=examples.DELETION,
    )
    def delete(self, request: Request, device_id: str) -> Response:
        if "\0" in device_id:
            raise NotFound(f"{device_id} is not known")
        with transaction.atomic():
            if "If-Match" in request.headers:
                check_match(request, _known(request, device_id, lock=True))
            deletion = delete_device(device_id, caller(request))
        return Response(DeletionSerializer(deletion).data, status.HTTP_202_ACCEPTED)


def _answer(request: Request, device: Device, code: int = status.HTTP_200_OK) -> Response:
    return Response(shapes(request, [device])[0], code, headers={"ETag": etag(device)})


def _known(request: Request, device_id: str, lock: bool = False) -> Device:
    visible = Device.objects.visible_to(caller(request)).prefetch_related("groups")
    if lock:
        visible = visible.select_for_update(of=("self",))
    found = visible.filter(device_id=device_id).first() if "\0" not in device_id else None
    if found is None:
        raise NotFound(f"{device_id} is not known")
    return found
