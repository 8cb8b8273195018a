"""Channels, what came of their deliveries, and the routes to them. Operators look; admins change, and try them."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import OuterRef, Subquery
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from alerts.models import Channel, ChannelKind, Delivery, DeliveryStatus, Route
from alerts.notifications import channel_lifecycle
from dashboard.forms import Typed, lines, texts, whole
from dashboard.number_format import duration_text
from dashboard.views.access import admin_of, operator_of
from dashboard.views.routes import route_words
from rest.caller import Caller, Scope
from rest.errors import InvalidFields

PAGE = 50
FARTHEST = 10_000
OFFERED = 200


@dataclass(frozen=True, slots=True)
class ChannelRow:
    """A channel with what came of its last delivery."""

    channel: Channel
    last: Delivery | None
    age: str

    @property
    def target(self) -> str:
        return target_of(self.channel)


def target_of(channel: Channel) -> str:
    """Where it leads, as far as that is no secret: of a webhook its host, of Apprise which service."""
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
    """All channels, the routes to them, and a page of the newest deliveries."""
    caller = operator_of(request)
    now = timezone.now()
    newest = Delivery.objects.filter(channel_name=OuterRef("name")).order_by("-id").values("pk")[:1]
    channels = list(Channel.objects.annotate(newest=Subquery(newest))[:OFFERED])
    last = Delivery.objects.in_bulk([one.newest for one in channels if one.newest])
    rows = []
    for one in channels:
        delivery = last.get(one.newest)
        age = duration_text((now - delivery.created_at).total_seconds()) if delivery else ""
        rows.append(ChannelRow(one, delivery, age))
    context = {
        "rows": rows,
        "routes": [(one, route_words(one)) for one in Route.objects.all()[:OFFERED]],
        "administers": caller.may(Scope.ADMIN),
    }
    return render(request, "dashboard/alerts/channels.html", context | _log(request, Delivery.objects.all()))


def _log(request: HttpRequest, found: Any) -> dict[str, Any]:
    """A page of deliveries, the newest first."""
    given = request.GET.get("from", "0")
    start = min(int(given), FARTHEST) if given.isascii() and given.isdigit() and len(given) < 10 else 0
    page = list(found.order_by("-id")[start : start + PAGE + 1])
    return {"deliveries": page[:PAGE], "start": start, "next": start + PAGE if len(page) > PAGE else None}


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def new_channel(request: HttpRequest) -> HttpResponse:
    return _channel_form(request, admin_of(request), Channel(kind=ChannelKind.WEBHOOK))


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def channel_page(request: HttpRequest, channel_id: str) -> HttpResponse:
    """A channel as a form, and what came of its deliveries. Its address and secret stay where they are left empty."""
    caller = operator_of(request) if request.method != "POST" else admin_of(request)
    return _channel_form(request, caller, _channel(channel_id))


def _channel_form(request: HttpRequest, caller: Caller, channel: Channel) -> HttpResponse:
    form = Typed(
        {name: getattr(channel, name) for name in channel_lifecycle.CHANNEL_FIELDS if name not in ("url", "secret")}
    )
    if request.method == "POST":
        form = Typed(_typed_channel(request.POST, channel))
        try:
            if channel.pk:
                channel_lifecycle.change_channel(channel, form.values)
            else:
                channel = channel_lifecycle.create_channel(form.values, caller.name)
        except InvalidFields as error:
            form.refuse(error)
        else:
            messages.success(request, f"{channel.name} is saved. Send a test to see that it arrives.")
            return redirect("dashboard:channel", channel.channel_id)
    context = {
        "channel": channel,
        "form": form,
        "target": target_of(channel) if channel.pk else "",
        "kinds": ChannelKind.choices,
        "actions": sorted(settings.ALERT_ACTIONS),
        "administers": caller.may(Scope.ADMIN),
    }
    log = _log(request, Delivery.objects.filter(channel_name=channel.name) if channel.pk else Delivery.objects.none())
    return render(request, "dashboard/alerts/channel.html", context | log, status=422 if form.errors else 200)


def _typed_channel(given: QueryDict, channel: Channel) -> dict[str, Any]:
    """The fields of a channel, of those of its kind alone. What is secret is kept where nothing was typed."""
    text = texts(given)
    kind = text.get("kind", "")
    has_url = kind in (ChannelKind.WEBHOOK, ChannelKind.APPRISE)
    kept = channel.url if has_url and kind == channel.kind else ""
    secret = text.get("secret", "") or (channel.secret if "no_secret" not in given else "")
    return {
        "name": text.get("name", ""),
        "kind": kind,
        "url": (text.get("url", "") or kept) if has_url else "",
        "addresses": lines(text.get("addresses", "")) if kind == ChannelKind.EMAIL else [],
        "action": text.get("action", "") if kind == ChannelKind.ACTION else "",
        "secret": secret if kind == ChannelKind.WEBHOOK else "",
        "enabled": "enabled" in given,
        "gather_seconds": whole(text.get("gather_seconds", ""), -1) if text.get("gather_seconds") else 0,
        "send_resolved": "send_resolved" in given,
    }


@login_required
@require_POST
def test_channel(request: HttpRequest, channel_id: str) -> HttpResponse:
    """Tell it of an alert that there is not, and say what came back."""
    caller = admin_of(request)
    channel = _channel(channel_id)
    sent = channel_lifecycle.send_test(channel, caller.name)
    answered = f", it answered {sent.answer_status}" if sent.answer_status else ""
    if sent.status == DeliveryStatus.SENT:
        messages.success(request, f"The test reached {channel.name}{answered}.")
    else:
        messages.error(request, f"The test did not reach {channel.name}: {sent.error or 'no answer'}{answered}.")
    return redirect("dashboard:channel", channel.channel_id)


@login_required
@require_POST
def delete_channel(request: HttpRequest, channel_id: str) -> HttpResponse:
    """Rules and routes that name it show it as unconfigured."""
    admin_of(request)
    channel = _channel(channel_id)
    channel_lifecycle.delete_channel(channel)
    messages.success(request, f"{channel.name} is deleted. Rules that name it tell nobody there.")
    return redirect("dashboard:channels")


def _channel(channel_id: str) -> Channel:
    found: Channel = get_object_or_404(Channel, channel_id=channel_id.replace("\0", ""))
    return found
