"""`/subscribe` and `/tickets`: subscriptions to live values, and tickets that open streams."""

from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from dashboard.models import Subscription
from dashboard.streams import subscriptions, tickets
from dashboard.streams.access import owner_of, owner_of_user
from dashboard.streams.open_sessions import open_sessions
from rest.caller import Caller
from rest.fields import StrictSerializer, TagsField, name_field
from rest.openapi import Tag, operation
from rest.permissions import caller
from rest.resources import Action, Resource, describe
from rest.responses import ResponseSerializer, page_example

MAX_NAMES = 1_000
MIN_FREQUENCY, MAX_FREQUENCY = 100, 10_000  # ms

_FILTERS: dict[str, Any] = {
    "device_ids": ["device_001", "device_002"],
    "groups": None,
    "metric_names": ["temperature", "humidity"],
    "tags": {},
    "max_frequency": 1000,
}
_ID = "sub_dGVsZW1ldHJ5LWxpdmUtMDEy"
_LINKS = {
    "websocket_url": f"/ws/telemetry/{_ID}",
    "sse_url": f"/sse/telemetry/{_ID}",
    "expires_at": "2025-12-18T10:02:00Z",
}
_ROW = {"subscription_id": _ID, **_FILTERS, "created_at": "2025-12-18T10:00:00Z", **_LINKS}
_CREATED = {"subscription_id": _ID, "message": "Subscription created successfully", **_LINKS}


def _names(help_text: str) -> Any:
    return serializers.ListField(
        child=name_field(),
        min_length=1,
        max_length=MAX_NAMES,
        required=False,
        allow_null=True,
        default=None,
        help_text=f"{help_text}; null for all.",
    )


class SubscriptionSerializer(StrictSerializer):
    subscription_id = serializers.CharField(read_only=True)
    device_ids = _names("Devices")
    groups = _names("Device groups")
    metric_names = _names("Metrics")
    tags = TagsField(default=dict, help_text="Tags that the points must have.")
    max_frequency = serializers.IntegerField(
        min_value=MIN_FREQUENCY,
        max_value=MAX_FREQUENCY,
        default=1000,
        help_text="Milliseconds between two values of a series.",
    )
    created_at = serializers.DateTimeField(read_only=True)
    websocket_url = serializers.SerializerMethodField(help_text="Path of the WebSocket.")
    sse_url = serializers.SerializerMethodField(help_text="Path of the same stream as server-sent events.")
    expires_at = serializers.DateTimeField(
        read_only=True, help_text="When it is deleted unless a stream is open, which extends it."
    )

    def get_websocket_url(self, subscription: Subscription) -> str:
        return f"/ws/telemetry/{subscription.subscription_id}"

    def get_sse_url(self, subscription: Subscription) -> str:
        return f"/sse/telemetry/{subscription.subscription_id}"


class NewSubscriptionSerializer(ResponseSerializer):
    subscription_id = serializers.CharField()
    message = serializers.CharField()
    websocket_url = serializers.CharField(help_text="Path of the WebSocket.")
    sse_url = serializers.CharField(help_text="Path of the same stream as server-sent events.")
    expires_at = serializers.DateTimeField(help_text="When it is deleted unless a stream is opened.")


class TicketSerializer(ResponseSerializer):
    ticket = serializers.CharField(help_text="Value of the parameter `ticket` of a stream's URL.")
    expires_in = serializers.IntegerField(help_text="Seconds.")


def stream_owner(request: Request) -> str:
    """Return the owner of the streams of a request's caller."""
    user: Any = request.user
    return owner_of(user) if isinstance(user, Caller) else owner_of_user(user.pk)


class _StreamsOfCaller:
    """Callers that may read points, keys of one device included."""

    def requested_devices(self, request: Request) -> list[str | None]:
        """Return the devices that the caller must be allowed to read (rest.permissions.MayRead)."""
        named = request.data.get("device_ids") if isinstance(request.data, dict) else None
        devices = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
        return [*devices, caller(request).device_id]


@describe(
    Tag.STREAMING,
    list=Action(
        "list_subscriptions",
        "List subscriptions",
        "Returns a page of the caller's own subscriptions, newest first.",
        request={"limit": 50},
        response=page_example("subscriptions", _ROW),
    ),
    create=Action(
        "create_subscription",
        "Subscribe to live values",
        "Creates a subscription, whose values a WebSocket or a stream of server-sent events of the same caller sends:"
        " a snapshot, and then the newest value of each series at most once per `max_frequency`. It is deleted two"
        " minutes after the last of its streams has ended. Only devices that the caller sees are sent.",
        request=_FILTERS,
        response=_CREATED,
    ),
    destroy=Action(
        "cancel_subscription",
        "Cancel a subscription",
        "Deletes the subscription and closes its streams with code 4004.",
        response={"success": True, "message": f"the subscription {_ID} is cancelled"},
    ),
)
class SubscriptionResource(_StreamsOfCaller, Resource):
    """Subscriptions; a caller sees its own."""

    serializer_class = SubscriptionSerializer
    created_serializer_class = NewSubscriptionSerializer
    lookup_field = "subscription_id"
    rows_field = "subscriptions"
    page_name = "Subscriptions"
    has_etag = False
    write_scope = None  # a subscription needs the same access as a query
    unique_error = None
    not_found_message = "there is no subscription {}"

    def get_queryset(self) -> QuerySet[Subscription]:
        return Subscription.objects.filter(owner=stream_owner(self.request), expires_at__gt=timezone.now())

    def perform_create(self, serializer: Any) -> Subscription:
        return subscriptions.create(stream_owner(self.request), **serializer.validated_data)

    def respond(self, row: Subscription, code: int = status.HTTP_200_OK) -> Response:
        fields = self.represent([row])[0]
        created = {name: fields[name] for name in ("subscription_id", "websocket_url", "sse_url", "expires_at")}
        return Response({**created, "message": _CREATED["message"]}, code)

    def perform_destroy(self, row: Subscription) -> None:
        subscriptions.cancel(row)
        transaction.on_commit(lambda: open_sessions().end_subscription_soon(row.subscription_id))

    def deleted_message(self, row: Subscription) -> str:
        return f"the subscription {row.subscription_id} is cancelled"


class TicketView(_StreamsOfCaller, APIView):
    @operation(
        "create_ticket",
        "Create a ticket for a stream",
        tag=Tag.STREAMING,
        description="Returns a ticket that opens one stream within 30 seconds, as parameter `ticket` of its URL, for"
        " clients that can send neither headers nor cookies. The stream has the rights of the caller.",
        response=TicketSerializer,
        status=201,
        response_example={"ticket": "tt_Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4", "expires_in": tickets.LIFETIME},
    )
    def post(self, request: Request) -> Response:
        session = None if isinstance(request.user, Caller) else request._request.session.session_key
        ticket = tickets.issue(caller(request), stream_owner(request), session)
        headers = {"Cache-Control": "no-store"}
        return Response({"ticket": ticket, "expires_in": tickets.LIFETIME}, status.HTTP_201_CREATED, headers=headers)
