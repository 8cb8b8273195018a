"""Notification channels: the list, the form and the delivery log. Operators read; admins change and test."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import OuterRef, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from alerts.models import Channel, ChannelKind, Delivery, DeliveryStatus, Route
from alerts.notifications import channel_lifecycle
from dashboard.delivery_rows import DeliveryRow
from dashboard.forms.channels import ChannelEditForm
from dashboard.number_format import duration_text
from dashboard.pagination import paginate
from dashboard.views.access import admin_of, operator_of
from dashboard.views.routes import describe_route
from rest.caller import Caller
from rest.errors import InvalidFields

MAX_CHANNELS = 200


@dataclass(frozen=True, slots=True)
class ChannelRow:
    """A channel with its last delivery."""

    channel: Channel
    last: DeliveryRow | None
    age: str

    @property
    def destination(self) -> str:
        return destination_of(self.channel)


def destination_of(channel: Channel) -> str:
    """Return the public part of a channel's destination: the host of a webhook, the service of an Apprise URL."""
    if channel.kind == ChannelKind.EMAIL:
        return ", ".join(channel.addresses)
    if channel.kind == ChannelKind.ACTION:
        return channel.action
    try:
        parts = urlsplit(channel.url)
        return (parts.hostname or "") if channel.kind == ChannelKind.WEBHOOK else parts.scheme
    except ValueError:
        return ""


@login_required
@require_safe
def channel_list(request: HttpRequest) -> HttpResponse:
    """Show all channels, the routes and a page of the delivery log."""
    operator_of(request)
    context = {
        "rows": _channel_rows(),
        "routes": [(route, describe_route(route)) for route in Route.objects.all()[:MAX_CHANNELS]],
    }
    return render(request, "dashboard/alerts/channels.html", context | _log(request, Delivery.objects.all()))


def _channel_rows() -> list[ChannelRow]:
    """Return the channels with their last deliveries."""
    newest = Delivery.objects.filter(channel_name=OuterRef("name")).order_by("-id").values("pk")[:1]
    channels = list(Channel.objects.annotate(newest=Subquery(newest))[:MAX_CHANNELS])
    deliveries = Delivery.objects.in_bulk([channel.newest for channel in channels if channel.newest])
    rows, now = [], timezone.now()
    for channel in channels:
        delivery = deliveries.get(channel.newest)
        age = duration_text((now - delivery.created_at).total_seconds()) if delivery else ""
        rows.append(ChannelRow(channel, DeliveryRow(delivery) if delivery else None, age))
    return rows


def _log(request: HttpRequest, deliveries: Any) -> dict[str, Any]:
    """Return a page of deliveries, newest first."""
    page = paginate(request, deliveries.order_by("-id"))
    return {"deliveries": [DeliveryRow(delivery) for delivery in page.rows], "page": page}


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def new_channel(request: HttpRequest) -> HttpResponse:
    """Show the form of a new channel, and create it."""
    return _channel_form(request, admin_of(request), Channel(kind=ChannelKind.WEBHOOK))


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def channel_page(request: HttpRequest, channel_id: str) -> HttpResponse:
    """Show a channel as a form with its deliveries, and save it."""
    caller = operator_of(request) if request.method != "POST" else admin_of(request)
    return _channel_form(request, caller, _channel(channel_id))


def _channel_form(request: HttpRequest, caller: Caller, channel: Channel) -> HttpResponse:
    destination = destination_of(channel) if channel.pk else ""
    form = ChannelEditForm(request.POST if request.method == "POST" else None, channel, destination)
    if form.is_valid():
        try:
            if channel.pk:
                channel_lifecycle.change_channel(channel, form.cleaned_data)
            else:
                channel = channel_lifecycle.create_channel(form.cleaned_data, caller.name)
        except InvalidFields as error:
            form.add_errors(error.fields)
        else:
            messages.success(request, f"{form.cleaned_data['name']} saved. Send a test to check the channel.")
            return redirect("dashboard:channel", channel.channel_id)
    log = _log(request, Delivery.objects.filter(channel_name=channel.name) if channel.pk else Delivery.objects.none())
    context = {"channel": channel, "form": form, "destination": destination} | log
    return render(request, "dashboard/alerts/channel.html", context, status=422 if form.errors else 200)


@login_required
@require_POST
def test_channel(request: HttpRequest, channel_id: str) -> HttpResponse:
    """Send a test notification and show the response of the destination."""
    caller = admin_of(request)
    channel = _channel(channel_id)
    sent = channel_lifecycle.send_test(channel, caller.name)
    status = f"HTTP {sent.answer_status}" if sent.answer_status else ""
    if sent.status == DeliveryStatus.SENT:
        messages.success(request, f"Test notification sent to {channel.name}{f' ({status})' if status else ''}.")
    else:
        reason = ", ".join(filter(None, (sent.error, status))) or "no response"
        messages.error(request, f"Test notification to {channel.name} failed: {reason}.")
    return redirect("dashboard:channel", channel.channel_id)


@login_required
@require_POST
def delete_channel(request: HttpRequest, channel_id: str) -> HttpResponse:
    """Delete a channel. Rules and routes keep its name and show it as not configured."""
    admin_of(request)
    channel = _channel(channel_id)
    channel_lifecycle.delete_channel(channel)
    messages.success(request, f"{channel.name} deleted. Rules that use this channel no longer notify it.")
    return redirect("dashboard:channels")


def _channel(channel_id: str) -> Channel:
    channel: Channel = get_object_or_404(Channel, channel_id=channel_id.replace("\0", ""))
    return channel
