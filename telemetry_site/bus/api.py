"""Parked messages of the event bus, for admins."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from metrics.audit.record import record
from rest.filters import ChoiceFilter, FilterSet, TextFilter
from rest.openapi import Tag, operation
from rest.pagination import COUNT_LIMIT
from rest.resources import Action, Conflict, Resource, describe
from rest.responses import ResponseSerializer, page_example
from telemetry_site.bus.models import Direction, ParkedMessage
from telemetry_site.bus.replay_parked import ReplayFailed, replay_parked

MAX_SHOWN_BYTES = 4096  # of a payload
_EXAMPLE: dict[str, Any] = {
    "id": 7,
    "direction": "inbound",
    "peer": "SERVICES",
    "message_id": "SERVICES:1042",
    "type": "user.deleted",
    "subject": "services.user.deleted",
    "headers": {"ce-id": "5c1f", "ce-type": "user.deleted"},
    "payload": '{"username": 12}',
    "size": 16,
    "reason": "username must be a text of 1 to 150 characters",
    "attempts": 1,
    "parked_at": "2026-11-29T08:00:00Z",
}


@extend_schema_serializer(component_name="ParkedMessage")
class ParkedMessageSerializer(serializers.ModelSerializer[ParkedMessage]):
    headers = serializers.DictField(
        child=serializers.CharField(), help_text="Headers of an inbound message; attributes of an outbound event."
    )
    payload = serializers.SerializerMethodField(
        help_text=f"Beginning of the payload as text, at most {MAX_SHOWN_BYTES:,} bytes."
    )

    class Meta:
        model = ParkedMessage
        fields = (
            "id", "direction", "peer", "message_id", "type", "subject", "headers", "payload", "size", "reason",
            "attempts", "parked_at",
        )  # fmt: skip
        read_only_fields = fields

    def get_payload(self, message: ParkedMessage) -> str:
        return bytes(message.payload)[:MAX_SHOWN_BYTES].decode("utf-8", "replace").replace("\0", "�")


class ParkedMessageFilters(FilterSet):
    direction = ChoiceFilter(choices=Direction.choices, help_text="Received from or to be sent to another service.")
    peer = TextFilter("peer", help_text="Stream that it came from, or target that refused it.")
    type = TextFilter("type", help_text="Type of the event.")


class ReplayAnswer(ResponseSerializer):
    success = serializers.BooleanField()
    message = serializers.CharField(help_text="Result of the replay, in one sentence.")


@describe(
    Tag.EVENTS,
    list=Action(
        "list_parked_messages",
        "List parked messages",
        "Returns a page of the messages that could not be processed or delivered, with the reason, newest first. All"
        f" operations on parked messages are for admins. `total` is at most {COUNT_LIMIT:,}.",
        request={"direction": "inbound"},
        response=page_example("messages", _EXAMPLE),
    ),
    retrieve=Action("get_parked_message", "Get a parked message", "Returns the message.", response=_EXAMPLE),
    destroy=Action(
        "delete_parked_message",
        "Delete a parked message",
        "The message is deleted without being processed.",
        response={"success": True, "message": "the parked message 7 is deleted"},
    ),
)
class ParkedMessageResource(Resource):
    queryset = ParkedMessage.objects.order_by("-pk")
    serializer_class = ParkedMessageSerializer
    filterset_class = ParkedMessageFilters
    lookup_field = "pk"
    lookup_url_kwarg = "number"
    rows_field = "messages"
    count_limit = COUNT_LIMIT
    read_scope = "admin"
    has_etag = False
    not_found_message = "there is no parked message {}"

    def get_queryset(self) -> QuerySet[ParkedMessage]:
        return ParkedMessage.objects.order_by("-pk")

    def perform_destroy(self, row: ParkedMessage) -> None:
        record("deleted", ("parked message", str(row.pk)), before={"type": row.type, "reason": row.reason})
        row.delete()

    def deleted_message(self, row: ParkedMessage) -> str:
        return f"the parked message {row.pk} is deleted"

    @operation(
        "replay_parked_message",
        "Replay a parked message",
        tag=Tag.EVENTS,
        description="Processes an inbound message, or sends an outbound one, as if it had just arrived. After that it"
        " is not parked any more. If it fails again, the answer is 409 with the reason, and it stays parked.",
        response=ReplayAnswer,
        errors=(404, 409),
        response_example={"success": True, "message": "device boiler is deleted (del_0123456789abcdef0123)"},
    )
    def replay(self, request: Request, number: int) -> Response:
        self.get_object()
        try:
            return Response({"success": True, "message": replay_parked(number)})
        except ReplayFailed as failed:
            raise Conflict(str(failed)) from failed
