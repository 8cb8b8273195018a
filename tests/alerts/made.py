"""Devices, rules, channels and alerts for tests of what becomes of alerts."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.utils import timezone

from alerts import alert_actions
from alerts.models import Alert, Channel, Level, Rule
from alerts.notifications import channel_lifecycle
from metrics.models import Device, DeviceGroup


def webhook(url: str, name: str = "hook", **fields: Any) -> Channel:
    return channel_lifecycle.create_channel({"name": name, "kind": "webhook", "url": url} | fields, "user:admin")


def rule(name: str = "too hot", channels: Sequence[str] = ("hook",), **fields: Any) -> Rule:
    given = {"metric_name": "temperature", "threshold_value": 80, "level": "warning"} | fields
    return Rule.objects.create(name=name, notification_channels=list(channels), **given)


def devices(count: int, group: str = "", prefix: str = "device") -> list[Device]:
    made = Device.objects.bulk_create(Device(device_id=f"{prefix}_{n:04}") for n in range(count))
    if group:
        DeviceGroup.objects.get_or_create(name=group)[0].devices.add(*made)
    return made


def alert(of: Rule, device: Device, at: datetime | None = None, **fields: Any) -> Alert:
    at = at or timezone.now()
    level = fields.pop("level", of.level)
    return Alert(
        rule=of,
        rule_name=of.name,
        device=device,
        device_name=device.device_id,
        metric_name=of.metric_name,
        level=Level(level),
        value=91.5,
        threshold=80,
        message=f"{of.name} at {device.device_id}",
        triggered_at=at,
        raised_at=at,
        last_breach_at=at,
        **fields,
    )


def fire(of: Rule, *among: Device, **fields: Any) -> list[Alert]:
    """Alerts of a rule, raised together as the evaluator does."""
    return alert_actions.raise_alerts([alert(of, device, **fields) for device in among])
