"""Notification channels. Operators see where a channel leads; secrets and the secret part of URLs are never shown."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.validators import UniqueValidator

from alerts.api import examples
from alerts.api.deliveries import DeliverySerializer
from alerts.api.filters import EXACT_TEXT
from alerts.models import Channel, ChannelKind, DeliveryStatus
from alerts.notifications import channel_lifecycle
from alerts.visibility import visible_channels
from rest.fields import ChoiceField, StrictSerializer, name_field
from rest.filters import BooleanFilter, ChoiceFilter, FilterSet, SearchFilter
from rest.openapi import Tag, operation
from rest.resources import Action, Resource, describe
from rest.responses import ResponseSerializer, page_example

MAX_URL_LENGTH = 2000
MAX_ADDRESSES = 100


@extend_schema_serializer(component_name="AlertChannel")
class ChannelSerializer(StrictSerializer, serializers.ModelSerializer[Channel]):
    name = name_field(
        help_text="Name by which rules and routes refer to the channel.",
        validators=[UniqueValidator(Channel.objects.all(), "is taken")],
    )
    kind = ChoiceField(ChannelKind.choices)
    url = serializers.CharField(
        max_length=MAX_URL_LENGTH,
        allow_blank=True,
        required=False,
        write_only=True,
        help_text="URL of a webhook or of Apprise.",
    )
    target = serializers.CharField(read_only=True, help_text="Target without its secret parts.")
    addresses = serializers.ListField(
        child=serializers.EmailField(), max_length=MAX_ADDRESSES, required=False, help_text="E-mail addresses."
    )
    action = name_field(allow_blank=True, required=False, help_text="Name of a registered action.")
    secret = name_field(
        allow_blank=True, required=False, write_only=True, help_text="Secret that signs webhooks; it cannot be read."
    )
    has_secret = serializers.SerializerMethodField()
    gather_seconds = serializers.IntegerField(
        min_value=0,
        max_value=channel_lifecycle.MAX_GATHER_SECONDS,
        required=False,
        help_text="After a message, collect notifications for this many seconds into one message; 0 sends each at"
        " once.",
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


class ChannelFilters(FilterSet):
    kind = ChoiceFilter(choices=ChannelKind.choices, help_text="Channel kind.")
    enabled = BooleanFilter(help_text="Whether the channel is enabled.")
    search = SearchFilter("name__icontains", help_text="Text in the name.", **EXACT_TEXT)


@extend_schema_serializer(component_name="Tried")
class ChannelTestSerializer(ResponseSerializer):
    success = serializers.BooleanField(help_text="Whether the message was delivered.")
    message = serializers.CharField(help_text="Summary of the result.")
    delivery = DeliverySerializer()


@describe(
    Tag.ALERTS,
    list=Action(
        "list_alert_channels",
        "List notification channels",
        "Returns a page of the channels that rules and routes of the caller's devices notify, sorted by name. Requires"
        " scope `operate`.",
        request={"kind": "webhook"},
        response=page_example("channels", examples.CREATED_CHANNEL, filters={"kind": "webhook"}),
    ),
    create=Action(
        "create_alert_channel",
        "Create a notification channel",
        "A webhook has a `url`, and a `secret` if its messages are to be signed. Apprise has a `url`. E-mail has"
        " `addresses`. An action has the name of a function that the installation has registered. URLs that lead into"
        " private networks are rejected.",
        request=examples.CHANNEL,
        response=examples.CREATED_CHANNEL,
    ),
    retrieve=Action(
        "get_alert_channel",
        "Get a notification channel",
        "The target is returned without its secret parts.",
        response=examples.CREATED_CHANNEL,
    ),
    partial_update=Action(
        "update_alert_channel",
        "Change a notification channel",
        "Omitted fields, including secrets, keep their values.",
        request={"enabled": False},
        response=examples.CREATED_CHANNEL | {"enabled": False},
    ),
    destroy=Action(
        "delete_alert_channel",
        "Delete a notification channel",
        "Its deliveries stay in the log. Rules that name the channel list it as unconfigured.",
        response={"success": True, "message": "on call is deleted"},
    ),
)
class ChannelResource(Resource):
    serializer_class = ChannelSerializer
    filterset_class = ChannelFilters
    lookup_field = "channel_id"
    rows_field = "channels"
    echo_filters = "sent"
    cacheable = True
    read_scope = "operate"

    def get_queryset(self) -> QuerySet[Channel]:
        return visible_channels(self.caller)

    def perform_create(self, serializer: Any) -> Channel:
        return channel_lifecycle.create_channel(serializer.validated_data, self.caller.name)

    def perform_update(self, serializer: Any) -> Channel:
        return channel_lifecycle.change_channel(serializer.instance, serializer.validated_data)

    def perform_destroy(self, row: Channel) -> None:
        channel_lifecycle.delete_channel(row)

    def deleted_message(self, row: Channel) -> str:
        return f"{row.name} is deleted"

    @operation(
        "test_alert_channel",
        "Test a notification channel",
        tag=Tag.ALERTS,
        description="Sends one message, marked as a test, and returns its delivery, also when it failed. A channel is"
        " tested once at a time, and four channels together; further tests get 409.",
        response=ChannelTestSerializer,
        errors=(404, 409),
        response_example={
            "success": False,
            "message": "on call: the delivery failed: HTTP 503",
            "delivery": examples.DELIVERY | {"test": True, "attempts": 1},
        },
    )
    def test(self, request: Request, channel_id: str) -> Response:
        channel = self.get_object()
        delivery = channel_lifecycle.send_test(channel, self.caller.name)
        sent = delivery.status == DeliveryStatus.SENT
        result = "the test message was sent" if sent else f"the delivery failed: {delivery.error}"
        message = f"{channel.name}: {result}"
        return Response({"success": sent, "message": message, "delivery": DeliverySerializer(delivery).data})
