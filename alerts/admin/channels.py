"""Admin of channels. URLs and secrets are never shown and can only be replaced."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from alerts.admin.forms import ArrayFieldAdmin, ValidatedModelForm, copy_saved_values
from alerts.models import Channel, ChannelKind, DeliveryStatus
from alerts.notifications import channel_lifecycle
from rest.caller import caller_of

MAX_TEST_CHANNELS = 10  # each test may take seconds
KEEP_HINT = "Leave empty to keep the stored value."


class ChannelForm(ValidatedModelForm):
    url = forms.CharField(required=False, max_length=2000, help_text=f"URL of the webhook, or Apprise URL. {KEEP_HINT}")
    secret = forms.CharField(
        required=False,
        max_length=200,
        widget=forms.PasswordInput,
        help_text=f"Key that signs webhook requests. {KEEP_HINT}",
    )

    class Meta:
        model = Channel
        fields = channel_lifecycle.CHANNEL_FIELDS

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.stored = {name: getattr(self.instance, name) for name in ("url", "secret")}
        self.initial.update(dict.fromkeys(self.stored, ""))

    def clean_url(self) -> str:
        has_url = self.cleaned_data.get("kind") in (ChannelKind.WEBHOOK, ChannelKind.APPRISE)
        return self.cleaned_data["url"] or (self.stored["url"] if has_url else "")

    def clean_secret(self) -> str:
        return self.cleaned_data["secret"] or self.stored["secret"]

    def check(self) -> None:
        channel_lifecycle.check_channel(self.instance)


@admin.register(Channel)
class ChannelAdmin(ArrayFieldAdmin):
    help = (
        "Targets of notifications. Rules and routes refer to channels by name, and may do so before the channel exists."
    )
    form = ChannelForm
    list_display = ("name", "kind", "target", "enabled", "gather_seconds", "send_resolved")
    list_filter = ("kind", "enabled")
    search_fields = ("name", "=channel_id")
    actions = ("send_test_message",)
    fields = (*channel_lifecycle.CHANNEL_FIELDS, "target", "channel_id", "created_by", "created_at", "updated_at")
    readonly_fields = ("target", "channel_id", "created_by", "created_at", "updated_at")

    def save_model(self, request: HttpRequest, obj: Channel, form: Any, change: bool) -> None:
        fields = {name: getattr(obj, name) for name in channel_lifecycle.CHANNEL_FIELDS}
        if change:
            saved = channel_lifecycle.change_channel(obj, fields)
        else:
            saved = channel_lifecycle.create_channel(fields, caller_of(request.user).name)
        copy_saved_values(obj, saved)

    def delete_model(self, request: HttpRequest, obj: Channel) -> None:
        channel_lifecycle.delete_channel(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Channel]) -> None:
        for channel in queryset:
            channel_lifecycle.delete_channel(channel)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[list[str], dict[str, int], set[str], list]:
        """Return the channels only: their deliveries are kept."""
        names = [str(channel) for channel in objs]
        return names, {"channels": len(names)}, set(), []

    @admin.action(description="Send a test message", permissions=["change"])
    def send_test_message(self, request: HttpRequest, queryset: QuerySet[Channel]) -> None:
        for channel in queryset[:MAX_TEST_CHANNELS]:
            try:
                delivery = channel_lifecycle.send_test(channel, caller_of(request.user).name)
            except channel_lifecycle.ChannelBusy as busy:
                self.message_user(request, f"Test message to {channel} not sent: {busy}", messages.ERROR)
                continue
            if delivery.status == DeliveryStatus.SENT:
                self.message_user(request, f"Test message sent to {channel}.", messages.SUCCESS)
            else:
                self.message_user(request, f"Test message to {channel} failed: {delivery.error}", messages.ERROR)
