"""The configuration that the site sets for the edge agent of a device."""

import time
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

from ingest.agent.remote_config import InvalidRemoteConfig, parse_settings
from metrics.models import Audited, Device


class AgentConfiguration(Audited):
    """Interval and probes of one agent.

    The version rises with every change: it is the time of the change in seconds since 1970, so that it also rises after
    the database was restored from a backup. Agents accept no version below the one that they have.
    """

    device = models.OneToOneField(Device, on_delete=models.CASCADE, related_name="agent_configuration")
    version = models.BigIntegerField(default=0, editable=False)
    interval = models.FloatField(
        null=True, blank=True, help_text="Seconds between snapshots; empty: as the agent's own configuration says."
    )
    probes = models.JSONField(
        default=list,
        blank=True,
        help_text="A list of commands and files to measure, used where the agent's own configuration has"
        ' remote_probes = on: [{"name": "pressure", "run": "/usr/local/bin/read-pressure", "interval": 60}].',
    )
    updated_at = models.DateTimeField(auto_now=True)

    audit_name = "device__device_id"

    class Meta:
        ordering = ["device__device_id"]
        verbose_name = "agent configuration"

    def __str__(self) -> str:
        return f"agent of {self.device.device_id}"

    def clean(self) -> None:
        super().clean()
        try:
            parse_settings(self.interval, self.probes)
        except InvalidRemoteConfig as error:
            name, _, detail = str(error).partition(": ")
            field = "interval" if name == "interval" else "probes"
            raise ValidationError({field: detail if field == name else str(error)}) from None

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.version = max(self.version + 1, int(time.time()))
        super().save(*args, **kwargs)
