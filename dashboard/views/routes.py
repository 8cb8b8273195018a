"""Routes: which alerts go to which channels besides what their rules say, and who is told when nobody reacts."""

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from alerts.models import Channel, Level, Route
from alerts.notifications import channel_lifecycle
from dashboard.forms import DAYS, Typed, texts, weekly_of, whole
from dashboard.views.access import admin_of
from metrics.models import DeviceGroup
from rest.caller import Caller
from rest.errors import InvalidFields

OFFERED = 200
STEPS = 3  # of escalation, that the form has fields for


def route_words(route: Route) -> str:
    """Which alerts it takes, when, and to whom."""
    alerts = f"{', '.join(route.levels)} alerts" if route.levels else "every alert"
    of = f" of {', '.join(route.device_groups)}" if route.device_groups else ""
    given = route.weekly
    when = f", {', '.join(DAYS[day] for day in given['days'])} {given['from']} to {given['to']}" if given else ""
    again = f", again every {route.repeat_minutes} min" if route.repeat_minutes else ""
    steps = "".join(f"; after {one['after_minutes']} min {', '.join(one['channels'])}" for one in route.escalation)
    return f"{alerts}{of}{when} to {', '.join(route.channels) or 'nobody at first'}{again}{steps}"


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def new_route(request: HttpRequest) -> HttpResponse:
    return _route_form(request, admin_of(request), Route())


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def route_page(request: HttpRequest, route_id: str) -> HttpResponse:
    return _route_form(request, admin_of(request), _route(route_id))


def _route_form(request: HttpRequest, caller: Caller, route: Route) -> HttpResponse:
    form = Typed({name: getattr(route, name) for name in channel_lifecycle.ROUTE_FIELDS})
    if request.method == "POST":
        form = Typed(_typed_route(request.POST))
        try:
            if route.pk:
                channel_lifecycle.change_route(route, form.values)
            else:
                route = channel_lifecycle.create_route(form.values, caller.name)
        except InvalidFields as error:
            form.refuse(error)
        else:
            messages.success(request, f"{route.name} is saved.")
            return redirect("dashboard:channels")
    names = list(Channel.objects.order_by("name").values_list("name", flat=True)[:OFFERED])
    steps = list(form.values["escalation"])
    named = [*form.values["channels"], *(name for one in steps for name in one.get("channels", []))]
    context = {
        "route": route,
        "form": form,
        "steps": steps + [{"after_minutes": "", "channels": []}] * max(1, STEPS - len(steps)),
        "channels": list(dict.fromkeys([*names, *named])),
        "groups": DeviceGroup.objects.order_by("name").values_list("name", flat=True)[:OFFERED],
        "levels": [(level, Level(level).label) for level in Level.values],
        "days": [(str(number), words) for number, words in enumerate(DAYS)],
        "chosen_days": [str(day) for day in (form.values["weekly"] or {}).get("days", [])],
    }
    return render(request, "dashboard/alerts/route.html", context, status=422 if form.errors else 200)


def _typed_route(given: QueryDict) -> dict[str, Any]:
    text = texts(given)
    steps = []
    for number, minutes in enumerate(given.getlist("after_minutes")):
        if minutes.strip():
            steps.append({"after_minutes": whole(minutes, 0), "channels": given.getlist(f"step_{number}")})
    return {
        "name": text.get("name", ""),
        "enabled": "enabled" in given,
        "levels": given.getlist("levels"),
        "device_groups": given.getlist("device_groups"),
        "weekly": weekly_of(text, given.getlist("days")),
        "channels": given.getlist("channels"),
        "repeat_minutes": whole(text["repeat_minutes"], 0) if text.get("repeat_minutes") else None,
        "escalation": steps,
    }


@login_required
@require_POST
def delete_route(request: HttpRequest, route_id: str) -> HttpResponse:
    admin_of(request)
    route = _route(route_id)
    route.delete()
    messages.success(request, f"{route.name} is deleted.")
    return redirect("dashboard:channels")


def _route(route_id: str) -> Route:
    found: Route = get_object_or_404(Route, route_id=route_id.replace("\0", ""))
    return found
