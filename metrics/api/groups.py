"""Device groups: which there are, who sees their devices, and which devices are in them.

Whoever may read sees its own groups. `admin` makes, changes and deletes them; with scope `operate` devices that are
seen can be put into groups that are seen, and taken out. The name of a group is for ever: keys and questions use it.
"""

from collections.abc import Iterable
from typing import Any

from django.contrib.auth import get_user_model
from django.db import IntegrityError, transaction
from django.db.models import Count, QuerySet
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers, status
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.validators import UniqueValidator
from rest_framework.views import APIView

from metrics.api import examples
from metrics.api.answers import Answer, Done, Page
from metrics.api.devices import COUNTED, DeviceSerializer, shapes
from metrics.devices import group_membership
from metrics.models import Device, DeviceGroup
from rest.configuration import Known, name_field
from rest.etags import check_match, etag
from rest.idempotency import idempotent
from rest.openapi import Tag, operation, state
from rest.pagination import PageParameters, page
from rest.permissions import caller

MOST_MEMBERS = 10_000  # people of a group, and devices that are moved at once
MOST_TOLD = 100  # devices that are not known
KNOWN = "a group of this name is known already"


class MembersField(serializers.ListField):
    """Names of people."""

    child = serializers.CharField()

    def get_attribute(self, group: DeviceGroup) -> list[str]:
        return sorted(person.get_username() for person in group.members.all())

    def to_internal_value(self, data: Any) -> Any:
        names = super().to_internal_value(data)
        found = {person.get_username(): person for person in get_user_model().objects.filter(username__in=names)}
        if unknown := [name for name in names if name not in found]:
            raise serializers.ValidationError(f"{unknown[0]!r:.80} is nobody's name here")
        return list(found.values())


@extend_schema_serializer(component_name="DeviceGroup")
class GroupSerializer(Known, serializers.ModelSerializer[DeviceGroup]):
    name = name_field(validators=[UniqueValidator(DeviceGroup.objects.all(), KNOWN)])
    description = serializers.CharField(max_length=10_000, allow_blank=True, required=False)
    members = MembersField(max_length=MOST_MEMBERS, required=False, help_text="People who see the group's devices.")
    devices = serializers.SerializerMethodField(help_text="How many devices are in it.")

    class Meta:
        model = DeviceGroup
        fields = ("name", "description", "members", "devices", "created_at", "updated_at")
        read_only_fields = ("created_at", "updated_at")

    def get_devices(self, group: DeviceGroup) -> int:
        counted: int | None = getattr(group, "counted", None)  # of a list, all of whose groups are counted at once
        return group.devices.count() if counted is None else counted

    def validate_name(self, name: str) -> str:
        if self.instance is not None and name != self.instance.name:
            raise serializers.ValidationError("cannot be changed: keys and questions use it")
        if name.isspace():
            raise serializers.ValidationError("a text that is not blank is accepted")
        return name


class Groups(Page):
    groups = GroupSerializer(many=True)


class GroupParameters(PageParameters):
    search = serializers.CharField(required=False, max_length=200, help_text="Words in the name or the description.")


class GroupsView(APIView):
    """Which groups there are; make one."""

    scope_for_changes = "admin"

    @operation(
        "list_groups",
        "Which device groups there are",
        tag=Tag.DEVICES,
        description="A page of the groups that the caller sees, by name.",
        query=GroupParameters,
        answer=Groups,
        asked={"search": "site"},
        answered={
            "groups": [examples.KNOWN_GROUP],
            "count": 1,
            "total": 1,
            "limit": 100,
            "offset": 0,
            "next_cursor": None,
        },
    )
    def get(self, request: Request) -> Response:
        given = GroupParameters(data=request.query_params)
        given.is_valid(raise_exception=True)
        found = _visible(request)
        if words := given.validated_data.get("search"):
            found = found.filter(name__icontains=words) | found.filter(description__icontains=words)
        rows, told = page(request, found.order_by("name"), GroupParameters)
        inside = Device.groups.through.objects.filter(devicegroup_id__in=[group.pk for group in rows])
        counts = dict(inside.values_list("devicegroup_id").annotate(counted=Count("*")).order_by())
        for group in rows:
            group.counted = counts.get(group.pk, 0)
        return Response({"groups": GroupSerializer(rows, many=True).data, **told})

    @operation(
        "create_group",
        "Make a device group",
        tag=Tag.DEVICES,
        description="Devices are put into it by their ids, or with their own `groups`.",
        request=GroupSerializer,
        answer=GroupSerializer,
        status=201,
        parameters=[state(201)],
        asked=examples.GROUP,
        answered=examples.KNOWN_GROUP | {"devices": 0},
    )
    @idempotent
    def post(self, request: Request) -> Response:
        given = GroupSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        try:
            with transaction.atomic():
                made = given.save()
        except IntegrityError:
            raise serializers.ValidationError({"name": KNOWN}) from None
        return _answer(made, status.HTTP_201_CREATED)


class GroupView(APIView):
    """One group."""

    scope_for_changes = "admin"

    @operation(
        "get_group",
        "What is known of a device group",
        tag=Tag.DEVICES,
        description="Who its members are, and how many devices it has.",
        answer=GroupSerializer,
        errors=(404,),
        parameters=[state()],
        answered=examples.KNOWN_GROUP,
    )
    def get(self, request: Request, name: str) -> Response:
        return _answer(_known(_visible(request), name))

    @operation(
        "update_group",
        "Change a device group",
        tag=Tag.DEVICES,
        description="Fields that are not sent stay as they are. What members see changes within a second.",
        request=GroupSerializer(partial=True),
        answer=GroupSerializer,
        errors=(404,),
        asked={"members": ["operator_1"]},
        answered=examples.KNOWN_GROUP,
        tagged=True,
    )
    def patch(self, request: Request, name: str) -> Response:
        with transaction.atomic():
            found = _known(_visible(request).select_for_update(), name)
            check_match(request, found)
            given = GroupSerializer(found, data=request.data, partial=True)
            given.is_valid(raise_exception=True)
            given.save()
        return _answer(_known(DeviceGroup.objects.prefetch_related("members"), name))

    @operation(
        "delete_group",
        "Delete a device group",
        tag=Tag.DEVICES,
        description="Its devices stay. Keys that are bound to it open nothing any more.",
        answer=Done,
        errors=(404,),
        answered={"success": True, "message": "site a is deleted; its devices stay"},
        tagged=True,
    )
    def delete(self, request: Request, name: str) -> Response:
        with transaction.atomic():
            found = _known(_visible(request).select_for_update(), name)
            check_match(request, found)
            found.delete()
        return Response({"success": True, "message": f"{name} is deleted; its devices stay"})


class DeviceIds(Known):
    device_ids = serializers.ListField(
        child=serializers.CharField(trim_whitespace=False), min_length=1, max_length=MOST_MEMBERS, help_text="Devices."
    )


class Moved(Answer):
    changed = serializers.IntegerField(help_text="Devices that were not in it, or not out of it, before.")
    devices = serializers.IntegerField(help_text="Devices that are in it now.")


class GroupDevices(Page):
    devices = DeviceSerializer(many=True)


class GroupDevicesView(APIView):
    """Which devices are in a group."""

    scope_for_changes = "operate"

    @operation(
        "list_group_devices",
        "The devices of a group",
        tag=Tag.DEVICES,
        description=f"A page of devices by id. `total` counts to {COUNTED:,} and no further.",
        query=PageParameters,
        answer=GroupDevices,
        errors=(404,),
        answered={
            "devices": [examples.KNOWN_DEVICE],
            "count": 1,
            "total": 1,
            "limit": 100,
            "offset": 0,
            "next_cursor": None,
        },
    )
    def get(self, request: Request, name: str) -> Response:
        group = _known(_visible(request), name)
        devices = Device.objects.in_groups(DeviceGroup.objects.filter(pk=group.pk)).visible_to(caller(request))
        rows, told = page(request, devices.prefetch_related("groups"), counted=COUNTED)
        return Response({"devices": shapes(request, rows), **told})

    @operation(
        "add_group_devices",
        "Put devices into a group",
        tag=Tag.DEVICES,
        description=f"Up to {MOST_MEMBERS:,} at once; where one is not known, none is put in.",
        request=DeviceIds,
        answer=Moved,
        errors=(404,),
        asked={"device_ids": ["device_001"]},
        answered={"changed": 1, "devices": 1},
    )
    @idempotent
    def post(self, request: Request, name: str) -> Response:
        return self._move(request, name, group_membership.add_devices)

    @operation(
        "remove_group_devices",
        "Take devices out of a group",
        tag=Tag.DEVICES,
        description=f"Up to {MOST_MEMBERS:,} at once; where one is not known, none is taken out.",
        request=DeviceIds,
        answer=Moved,
        errors=(404,),
        asked={"device_ids": ["device_001"]},
        answered={"changed": 1, "devices": 0},
    )
    def delete(self, request: Request, name: str) -> Response:
        return self._move(request, name, group_membership.remove_devices)

    def _move(self, request: Request, name: str, move: Any) -> Response:
        group = _known(_visible(request), name)
        given = DeviceIds(data=request.data)
        given.is_valid(raise_exception=True)
        with transaction.atomic():
            changed = move(group, _numbers(request, given.validated_data["device_ids"]))
        return Response({"changed": changed, "devices": group.devices.count()})


def _numbers(request: Request, device_ids: list[str]) -> Iterable[int]:
    """The primary keys of devices that the caller sees."""
    visible = Device.objects.visible_to(caller(request))
    found = dict(visible.filter(device_id__in=device_ids).values_list("device_id", "pk"))
    unknown = {at: one for at, one in enumerate(device_ids) if one not in found}
    if unknown:
        told = list(unknown.items())[:MOST_TOLD]
        raise serializers.ValidationError({f"device_ids.{at}": f"{one!r:.80} is not known" for at, one in told})
    return set(found.values())


def _visible(request: Request) -> QuerySet[DeviceGroup]:
    return DeviceGroup.objects.visible_to(caller(request)).prefetch_related("members")


def _known(among: QuerySet[DeviceGroup], name: str) -> DeviceGroup:
    found = among.filter(name=name).first() if "\0" not in name else None
    if found is None:
        raise NotFound(f"{name} is not known")
    return found


def _answer(group: DeviceGroup, code: int = status.HTTP_200_OK) -> Response:
    return Response(GroupSerializer(group).data, code, headers={"ETag": etag(group)})
