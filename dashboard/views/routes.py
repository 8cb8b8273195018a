"""Routes: the form of a route, and its description in words."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from alerts.models import Channel, Route
from alerts.notifications import channel_lifecycle
from dashboard.forms.channels import RouteEditForm
from dashboard.forms.fields import WEEKDAYS
from dashboard.views.access import admin_of
from metrics.models import DeviceGroup
from rest.caller import Caller
from rest.errors import InvalidFields

MAX_CHOICES = 200


def describe_route(route: Route) -> str:
    """Return which alerts a route takes, when, and to which channels."""
    alerts = f"{', '.join(route.levels)} alerts" if route.levels else "All alerts"
    groups = f" of {', '.join(route.device_groups)}" if route.device_groups else ""
    weekly = route.weekly
    days = ", ".join(WEEKDAYS[day] for day in weekly["days"]) if weekly else ""
    window = f", {days} {weekly['from']} to {weekly['to']}" if weekly else ""
    channels = ", ".join(route.channels) or "no channel at first"
    repeat = f", repeated every {route.repeat_minutes} min" if route.repeat_minutes else ""
    steps = [(step["after_minutes"], ", ".join(step["channels"])) for step in route.escalation]
    escalation = "".join(f"; after {minutes} min to {names}" for minutes, names in steps)
    return f"{alerts}{groups}{window} to {channels}{repeat}{escalation}"


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def new_route(request: HttpRequest) -> HttpResponse:
    """Show the form of a new route, and create it."""
    return _route_form(request, admin_of(request), Route())


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def route_page(request: HttpRequest, route_id: str) -> HttpResponse:
    """Show a route as a form, and save it."""
    return _route_form(request, admin_of(request), _route(route_id))


def _route_form(request: HttpRequest, caller: Caller, route: Route) -> HttpResponse:
    groups = list(DeviceGroup.objects.order_by("name").values_list("name", flat=True)[:MAX_CHOICES])
    channels = list(Channel.objects.order_by("name").values_list("name", flat=True)[:MAX_CHOICES])
    form = RouteEditForm(request.POST if request.method == "POST" else None, route, groups, channels)
    if form.is_valid():
        try:
            if route.pk:
                channel_lifecycle.change_route(route, form.cleaned_data)
            else:
                route = channel_lifecycle.create_route(form.cleaned_data, caller.name)
        except InvalidFields as error:
            form.add_errors(error.fields)
        else:
            messages.success(request, f"{form.cleaned_data['name']} saved.")
            return redirect("dashboard:channels")
    context = {"route": route, "form": form}
    return render(request, "dashboard/alerts/route.html", context, status=422 if form.errors else 200)


@login_required
@require_POST
def delete_route(request: HttpRequest, route_id: str) -> HttpResponse:
    """Delete a route."""
    admin_of(request)
    route = _route(route_id)
    route.delete()
    messages.success(request, f"{route.name} deleted.")
    return redirect("dashboard:channels")


def _route(route_id: str) -> Route:
    route: Route = get_object_or_404(Route, route_id=route_id.replace("\0", ""))
    return route
