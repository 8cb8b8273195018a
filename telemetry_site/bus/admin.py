"""Admin pages of the event bus: targets, and parked messages with replay."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from metrics.admin.base import ReadOnlyAdmin
from telemetry_site.bus.models import BusTarget, ParkedMessage
from telemetry_site.bus.replay_parked import ReplayFailed, replay_parked

MAX_SHOWN_BYTES = 16 * 1024


@admin.register(BusTarget)
class BusTargetAdmin(ReadOnlyAdmin):
    title = "Event bus targets"
    help = "What the relay of each target last reported."
    list_display = ("name", "delivered", "delivered_at", "failing_since", "last_error", "sync_interval", "reported_at")


@admin.register(ParkedMessage)
class ParkedMessageAdmin(ReadOnlyAdmin):
    title = "Parked messages"
    help = (
        "Messages that could not be processed or delivered, with the reason. Remove the cause, then replay them; or"
        " delete them."
    )
    list_display = ("parked_at", "direction", "peer", "type", "reason", "attempts", "message_id")
    list_filter = ("direction", "peer", "parked_at")
    search_fields = ("=message_id", "^type", "^subject")
    fields = (
        "direction", "peer", "message_id", "type", "subject", "headers", "payload_text", "size", "reason", "attempts",
        "parked_at",
    )  # fmt: skip
    actions = ("replay",)

    @admin.display(description="payload")
    def payload_text(self, message: ParkedMessage) -> str:
        return bytes(message.payload)[:MAX_SHOWN_BYTES].decode("utf-8", "replace")

    def has_delete_permission(self, request: HttpRequest, obj: ParkedMessage | None = None) -> bool:
        return bool(request.user.is_superuser)

    def has_replay_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_superuser)

    @admin.action(description="Replay the selected messages", permissions=["replay"])
    def replay(self, request: HttpRequest, queryset: QuerySet[ParkedMessage]) -> None:
        replayed = 0
        for number in queryset.order_by("pk").values_list("pk", flat=True).iterator(chunk_size=100):
            try:
                replay_parked(number)
                replayed += 1
            except ReplayFailed as failed:
                self.message_user(request, f"Message {number} stays parked: {failed}", messages.WARNING)
        self.message_user(request, f"{replayed:,} messages were replayed.", messages.SUCCESS)
