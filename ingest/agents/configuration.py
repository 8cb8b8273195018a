"""Reading and setting the configuration of a device's agent."""

from typing import Any

from django.db import transaction

from ingest.agent.remote_config import InvalidRemoteConfig, parse_settings
from ingest.agents.models import AgentConfiguration
from metrics.models import Device
from rest.errors import InvalidField


def configuration_of(device: Device) -> AgentConfiguration:
    """Return the configuration of a device; an unsaved one with version 0 if none was set."""
    stored = AgentConfiguration.objects.filter(device=device).first()
    return stored or AgentConfiguration(device=device, updated_at=device.created_at)


def set_configuration(device: Device, interval: float | None, probes: list[Any]) -> AgentConfiguration:
    """Store a configuration, which the agent reads within five minutes. Raises InvalidFields."""
    try:
        parse_settings(interval, probes)
    except InvalidRemoteConfig as error:
        name, _, detail = str(error).partition(": ")
        raise InvalidField(name, detail) from None
    with transaction.atomic():
        Device.objects.select_for_update(of=("self",)).get(pk=device.pk)
        configuration = configuration_of(device)
        configuration.interval, configuration.probes = interval, probes
        configuration.save()
    return configuration
