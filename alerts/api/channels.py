"""Channels by which people and programs are told of alerts. What they lead to is for those who operate to see, and
secrets are for nobody: an address is shown as far as it is none.
"""

from typing import Any

from django.db import transaction
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers, status
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from alerts.api import examples
from alerts.api.checking import checked, found_by, refusing, unique_name
from alerts.api.deliveries import DeliverySerializer
from alerts.api.lists import Filtered, asked, maybe, text, told
from alerts.models import Channel, ChannelKind, DeliveryStatus
from alerts.notifications import channel_lifecycle
from metrics.api.answers import Answer, Done
from metrics.api.definitions import ChoiceField
from rest.configuration import Known, name_field
from rest.etags import check_match, tagged
from rest.idempotency import idempotent
from rest.openapi import Tag, operation
from rest.pagination import PageParameters, page
from rest.permissions import caller

LONGEST_URL = 2000
MOST_ADDRESSES = 100


class MayConfigure(BasePermission):
    """Those who operate may look, admins may change."""

    def has_permission(self, request: Request, view: Any) -> bool:
        needed = "operate" if request.method in SAFE_METHODS else "admin"
        return bool(request.user and request.user.is_authenticated and caller(request).may(needed))


@extend_schema_serializer(component_name="AlertChannel")
class ChannelSerializer(Known, serializers.ModelSerializer[Channel]):
    name = name_field(help_text="By which rules and routes know it.")
    kind = ChoiceField(ChannelKind.choices)
    url = serializers.CharField(
        max_length=LONGEST_URL,
        allow_blank=True,
        required=False,
        write_only=True,
        help_text="Of a webhook, or Apprise's.",
    )
    target = serializers.CharField(read_only=True, help_text="Where it leads, as far as that is no secret.")
    addresses = serializers.ListField(
        child=serializers.EmailField(), max_length=MOST_ADDRESSES, required=False, help_text="Of e-mail."
    )
    action = name_field(allow_blank=True, required=False, help_text="The name of a registered action.")
    secret = name_field(
        allow_blank=True, required=False, write_only=True, help_text="Webhooks are signed with it; nobody can read it."
    )
    has_secret = serializers.SerializerMethodField()
    gather_seconds = serializers.IntegerField(
        min_value=0,
        max_value=channel_lifecycle.MAX_GATHER_SECONDS,
        required=False,
        help_text="After a message, others wait so long and go together. 0: each goes at once.",
    )

    class Meta:
        model = Channel
        fields = (
            "channel_id", "name", "kind", "url", "target", "addresses", "action", "secret", "has_secret", "enabled",
            "gather_seconds", "send_resolved", "created_by", "created_at", "updated_at",
        )  # fmt: skip
        read_only_fields = ("channel_id", "created_by", "created_at", "updated_at")

    def get_has_secret(self, channel: Channel) -> bool:
        return bool(channel.secret)


class ChannelParameters(PageParameters):
    kind = serializers.ChoiceField(ChannelKind.choices, required=False, help_text="Of this kind.")
    enabled = maybe("Whether it is used.")
    search = text("Words in the name.")


class Channels(Filtered):
    channels = ChannelSerializer(many=True)


class ChannelsView(APIView):
    permission_classes = [MayConfigure]

    @operation(
        "list_alert_channels",
        "Which channels there are",
        tag=Tag.ALERTS,
        description="A page of channels by name, for those who operate.",
        query=ChannelParameters,
        answer=Channels,
        asked={"kind": "webhook"},
        answered={"channels": [examples.KNOWN_CHANNEL], **examples.PAGE, "filters": {"kind": "webhook"}},
    )
    def get(self, request: Request) -> Response:
        filters = asked(ChannelParameters(data=request.query_params))
        lookups = {"name__icontains" if name == "search" else name: value for name, value in filters.items()}
        rows, counts = page(request, Channel.objects.filter(**lookups), ChannelParameters)
        return Response(
            {"channels": ChannelSerializer(rows, many=True).data, **counts, "filters": told(request, filters)}
        )

    @operation(
        "create_alert_channel",
        "Make a channel",
        tag=Tag.ALERTS,
        description="A webhook has a `url`, and a `secret` if it is to be signed; Apprise has a `url`; e-mail has"
        " `addresses`; an action has the name of a function that the installation has registered. Addresses within"
        " private networks are refused.",
        request=ChannelSerializer,
        answer=ChannelSerializer,
        status=201,
        errors=(422,),
        asked=examples.CHANNEL,
        answered=examples.KNOWN_CHANNEL,
        tagged=True,
    )
    @idempotent
    def post(self, request: Request) -> Response:
        fields = checked(ChannelSerializer(data=request.data))
        with unique_name(), refusing():
            made = channel_lifecycle.create_channel(fields, caller(request).name)
        return tagged(request, made, ChannelSerializer(made).data, status.HTTP_201_CREATED)


class ChannelView(APIView):
    permission_classes = [MayConfigure]

    @operation(
        "get_alert_channel",
        "A channel",
        tag=Tag.ALERTS,
        description="What it leads to, as far as that is no secret.",
        answer=ChannelSerializer,
        errors=(404,),
        answered=examples.KNOWN_CHANNEL,
        tagged=True,
    )
    def get(self, request: Request, channel_id: str) -> Response:
        found = found_by(Channel.objects.all(), channel_id=channel_id)
        return tagged(request, found, ChannelSerializer(found).data)

    @operation(
        "update_alert_channel",
        "Change a channel",
        tag=Tag.ALERTS,
        description="Fields that are not sent stay as they are, secrets too.",
        request=ChannelSerializer(partial=True),
        answer=ChannelSerializer,
        errors=(404, 422),
        asked={"enabled": False},
        answered=examples.KNOWN_CHANNEL | {"enabled": False},
        tagged=True,
    )
    def patch(self, request: Request, channel_id: str) -> Response:
        fields = checked(ChannelSerializer(data=request.data, partial=True))
        with unique_name(), refusing():
            found = found_by(Channel.objects.select_for_update(), channel_id=channel_id)
            check_match(request, found)
            changed = channel_lifecycle.change_channel(found, fields)
        return tagged(request, changed, ChannelSerializer(changed).data)

    @operation(
        "delete_alert_channel",
        "Delete a channel",
        tag=Tag.ALERTS,
        description="What was sent by it stays in the log. Rules that name it show it as unconfigured.",
        answer=Done,
        errors=(404,),
        answered={"success": True, "message": "on call is deleted"},
        tagged=True,
    )
    def delete(self, request: Request, channel_id: str) -> Response:
        with transaction.atomic():
            found = found_by(Channel.objects.select_for_update(), channel_id=channel_id)
            check_match(request, found)
            channel_lifecycle.delete_channel(found)
        return Response({"success": True, "message": f"{found.name} is deleted"})


class Tried(Answer):
    success = serializers.BooleanField(help_text="Whether it arrived.")
    message = serializers.CharField()
    delivery = DeliverySerializer()


class ChannelTestView(APIView):
    permission_classes = [MayConfigure]

    @operation(
        "test_alert_channel",
        "Try a channel",
        tag=Tag.ALERTS,
        description="Sends one message at once, marked as a test, and answers what came of it; of a failure too.",
        answer=Tried,
        errors=(404,),
        answered={
            "success": False,
            "message": "on call could not be told: it answered 503",
            "delivery": examples.DELIVERY | {"test": True, "attempts": 1},
        },
    )
    def post(self, request: Request, channel_id: str) -> Response:
        channel = found_by(Channel.objects.all(), channel_id=channel_id)
        delivery = channel_lifecycle.send_test(channel, caller(request).name)
        arrived = delivery.status == DeliveryStatus.SENT
        message = f"{channel.name} was told" if arrived else f"{channel.name} could not be told: {delivery.error}"
        return Response({"success": arrived, "message": message, "delivery": DeliverySerializer(delivery).data})
