"""Channels. Addresses and secrets that are kept here can be replaced, and are shown to nobody."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from alerts.admin.forms import CheckedForm, ListsAdmin, taken_over
from alerts.models import Channel, ChannelKind, DeliveryStatus
from alerts.notifications import channel_lifecycle
from rest.caller import caller_of

MOST_TRIED = 10  # each of them may take its time
KEPT = "Left empty it stays as it is."


class ChannelForm(CheckedForm):
    url = forms.CharField(required=False, max_length=2000, help_text=f"Of a webhook, or Apprise's. {KEPT}")
    secret = forms.CharField(
        required=False, max_length=200, widget=forms.PasswordInput, help_text=f"Webhooks are signed with it. {KEPT}"
    )

    class Meta:
        model = Channel
        fields = channel_lifecycle.CHANNEL_FIELDS

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.kept = {name: getattr(self.instance, name) for name in ("url", "secret")}
        self.initial.update(dict.fromkeys(self.kept, ""))

    def clean_url(self) -> str:
        has_url = self.cleaned_data.get("kind") in (ChannelKind.WEBHOOK, ChannelKind.APPRISE)
        return self.cleaned_data["url"] or (self.kept["url"] if has_url else "")

    def clean_secret(self) -> str:
        return self.cleaned_data["secret"] or self.kept["secret"]

    def check(self) -> None:
        channel_lifecycle.check_channel(self.instance)


@admin.register(Channel)
class ChannelAdmin(ListsAdmin):
    help = "By which people and programs are told of alerts. Rules and routes name them, also before they are made."
    form = ChannelForm
    list_display = ("name", "kind", "target", "enabled", "gather_seconds", "send_resolved")
    list_filter = ("kind", "enabled")
    search_fields = ("name", "=channel_id")
    actions = ("try_out",)
    fields = (*channel_lifecycle.CHANNEL_FIELDS, "target", "channel_id", "created_by", "created_at", "updated_at")
    readonly_fields = ("target", "channel_id", "created_by", "created_at", "updated_at")

    def save_model(self, request: HttpRequest, obj: Channel, form: Any, change: bool) -> None:
        fields, by = (
            {name: getattr(obj, name) for name in channel_lifecycle.CHANNEL_FIELDS},
            caller_of(request.user).name,
        )
        taken_over(
            obj,
            channel_lifecycle.change_channel(obj, fields) if change else channel_lifecycle.create_channel(fields, by),
        )

    def delete_model(self, request: HttpRequest, obj: Channel) -> None:
        channel_lifecycle.delete_channel(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Channel]) -> None:
        for channel in queryset:
            channel_lifecycle.delete_channel(channel)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[list[str], dict[str, int], set[str], list]:
        """The channels: what was sent by them stays."""
        names = [str(channel) for channel in objs]
        return names, {"channels": len(names)}, set(), []

    @admin.action(description="Send a test message", permissions=["change"])
    def try_out(self, request: HttpRequest, queryset: QuerySet[Channel]) -> None:
        for channel in queryset[:MOST_TRIED]:
            delivery = channel_lifecycle.test_send(channel, caller_of(request.user).name)
            if delivery.status == DeliveryStatus.SENT:
                self.message_user(request, f"The test message arrived by {channel}.", messages.SUCCESS)
            else:
                self.message_user(request, f"No test message went by {channel}: {delivery.error}", messages.ERROR)
