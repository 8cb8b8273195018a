"""Notification channels and routes: lists, forms and the delivery log. Operators read; admins change and test."""

from functools import partial
from typing import Any
from urllib.parse import urlsplit

from django.contrib import messages
from django.db.models import OuterRef, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from alerts.models import Channel, ChannelKind, Delivery, DeliveryStatus, Route
from alerts.notifications import channel_lifecycle
from alerts.visibility import narrow_routes, visible_channels, visible_deliveries, visible_routes
from dashboard.forms.channels import ChannelEditForm, RouteEditForm
from dashboard.forms.fields import names_of, posted
from dashboard.pagination import paginate
from dashboard.rule_words import weekly_text
from dashboard.views.access import admin_of, operator_of
from metrics.models import DeviceGroup
from rest.caller import Caller

MAX_CHANNELS = 200


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


def describe_route(route: Route) -> str:
    """Return which alerts a route takes, when, and to which channels."""
    alerts = f"{', '.join(route.levels)} alerts" if route.levels else "All alerts"
    groups = f" of {', '.join(route.device_groups)}" if route.device_groups else ""
    window = f", {weekly_text(route.weekly)}" if route.weekly else ""
    channels = ", ".join(route.channels) or "no channel at first"
    repeat = f", repeated every {route.repeat_minutes} min" if route.repeat_minutes else ""
    steps = [(step["after_minutes"], ", ".join(step["channels"])) for step in route.escalation]
    escalation = "".join(f"; after {minutes} min to {names}" for minutes, names in steps)
    return f"{alerts}{groups}{window} to {channels}{repeat}{escalation}"


@require_safe
def channel_list(request: HttpRequest) -> HttpResponse:
    """Show the channels, the routes and a page of the delivery log that the caller sees."""
    caller = operator_of(request)
    routes = list(visible_routes(caller)[:MAX_CHANNELS])
    narrow_routes(routes, caller)
    context = {
        "rows": _channel_rows(caller),
        "routes": [(route, describe_route(route)) for route in routes],
    }
    return render(request, "dashboard/alerts/channels.html", context | _log(request, visible_deliveries(caller)))


def _channel_rows(caller: Caller) -> list[tuple[Channel, str, Delivery | None]]:
    """Return the channels with their destinations and last deliveries, of those that the caller sees."""
    newest = visible_deliveries(caller).filter(channel_name=OuterRef("name")).order_by("-id").values("pk")[:1]
    channels = list(visible_channels(caller).annotate(newest=Subquery(newest))[:MAX_CHANNELS])
    deliveries = Delivery.objects.in_bulk([channel.newest for channel in channels if channel.newest])
    return [(channel, destination_of(channel), deliveries.get(channel.newest)) for channel in channels]


def _log(request: HttpRequest, deliveries: Any) -> dict[str, Any]:
    """Return a page of deliveries, newest first."""
    return {"page": paginate(request, deliveries.order_by("-id"))}


@require_http_methods(["GET", "HEAD", "POST"])
def channel_page(request: HttpRequest, channel_id: str = "") -> HttpResponse:
    """Show a channel as a form with its deliveries, or the form of a new one, and save it."""
    caller = operator_of(request) if channel_id and request.method != "POST" else admin_of(request)
    channel, save = Channel(kind=ChannelKind.WEBHOOK), partial(channel_lifecycle.create_channel, by=caller.name)
    if channel_id:
        channel = get_object_or_404(visible_channels(caller), channel_id=channel_id)
        save = partial(channel_lifecycle.change_channel, channel)
    destination = destination_of(channel)
    form = ChannelEditForm(posted(request), channel, destination)
    if saved := form.save(save):
        messages.success(request, f"{saved.name} saved. Send a test to check the channel.")
        return redirect("dashboard:channel", saved.channel_id)
    log = _log(request, visible_deliveries(caller).filter(channel_name=channel.name if channel_id else None))
    context = {"channel": channel, "form": form, "destination": destination} | log
    return render(request, "dashboard/alerts/channel.html", context, status=422 if form.errors else 200)


@require_POST
def test_channel(request: HttpRequest, channel_id: str) -> HttpResponse:
    """Send a test notification and show the response of the destination."""
    caller, channel = admin_of(request), get_object_or_404(Channel, channel_id=channel_id)
    try:
        sent = channel_lifecycle.send_test(channel, caller.name)
    except channel_lifecycle.ChannelBusy as busy:
        messages.error(request, f"Test notification not sent: {busy}.")
        return redirect("dashboard:channel", channel.channel_id)
    status = f"HTTP {sent.answer_status}" if sent.answer_status else ""
    if sent.status == DeliveryStatus.SENT:
        messages.success(request, f"Test notification sent to {channel.name}{f' ({status})' if status else ''}.")
    else:
        reason = ", ".join(filter(None, (sent.error, status))) or "no response"
        messages.error(request, f"Test notification to {channel.name} failed: {reason}.")
    return redirect("dashboard:channel", channel.channel_id)


@require_POST
def delete_channel(request: HttpRequest, channel_id: str) -> HttpResponse:
    """Delete a channel. Rules and routes keep its name and show it as not configured."""
    admin_of(request)
    channel = get_object_or_404(Channel, channel_id=channel_id)
    channel_lifecycle.delete_channel(channel)
    messages.success(request, f"{channel.name} deleted. Rules that use this channel no longer notify it.")
    return redirect("dashboard:channels")


@require_http_methods(["GET", "HEAD", "POST"])
def route_page(request: HttpRequest, route_id: str = "") -> HttpResponse:
    """Show a route as a form, or the form of a new one, and save it."""
    caller = admin_of(request)
    route, save = Route(), partial(channel_lifecycle.create_route, by=caller.name)
    if route_id:
        route = get_object_or_404(Route, route_id=route_id)
        save = partial(channel_lifecycle.change_route, route)
    form = RouteEditForm(posted(request), route, names_of(DeviceGroup.objects.all()), names_of(Channel.objects.all()))
    if saved := form.save(save):
        messages.success(request, f"{saved.name} saved.")
        return redirect("dashboard:channels")
    context = {"route": route, "form": form}
    return render(request, "dashboard/alerts/route.html", context, status=422 if form.errors else 200)


@require_POST
def delete_route(request: HttpRequest, route_id: str) -> HttpResponse:
    """Delete a route."""
    admin_of(request)
    route = get_object_or_404(Route, route_id=route_id)
    route.delete()
    messages.success(request, f"{route.name} deleted.")
    return redirect("dashboard:channels")
