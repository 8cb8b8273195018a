"""The agent of a device: its state, and the configuration that the site sets for it."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from dashboard.agent_state import agent_state
from dashboard.device_overview import device_rows
from dashboard.forms.agents import AgentForm, probes_text
from dashboard.forms.fields import posted
from dashboard.views.access import admin_of
from ingest.agents.configuration import configuration_of, set_configuration
from ingest.agents.models import AgentConfiguration
from metrics.models import Device
from rest.caller import Scope, caller_of
from rest.errors import InvalidFields


@require_http_methods(["GET", "HEAD", "POST"])
def agent_page(request: HttpRequest, device_id: str) -> HttpResponse:
    """Show the report of the agent and its settings, or save the settings."""
    device = get_object_or_404(Device.objects.visible_to(caller_of(request.user)), device_id=device_id)
    if request.method == "POST":
        admin_of(request)
    configuration = configuration_of(device)
    initial = {"interval": configuration.interval, "probes": probes_text(configuration.probes)}
    form = AgentForm(posted(request), initial=initial)

    def save(fields: dict[str, Any]) -> AgentConfiguration:
        try:
            return set_configuration(device, fields["interval"], fields["probes"])
        except InvalidFields as error:
            raise form.named(error) from None

    if form.save(save):
        messages.success(request, "Saved. The agent reads it within five minutes.")
        return redirect("dashboard:agent", device_id)
    [row] = device_rows([device], timezone.now())
    context = {
        "device": device,
        "agent": agent_state(row.values),
        "configuration": configuration,
        "form": form,
        "can_change": caller_of(request.user).may(Scope.ADMIN),
    }
    return render(request, "dashboard/agent.html", context, status=422 if form.errors else 200)
