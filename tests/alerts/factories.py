"""Factories for the channels, devices, rules and alerts that alert tests start from."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from django.utils import timezone

from alerts import alert_actions
from alerts.models import Alert, Channel, Rule
from alerts.notifications import channel_lifecycle
from alerts.rules import lifecycle
from metrics.devices import group_membership
from metrics.models import Device, DeviceGroup

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RULE_FIELDS: dict[str, Any] = {
    "name": "Too hot",
    "metric_name": "temperature",
    "condition": ">",
    "threshold_value": 80,
}


def create_webhook(url: str, name: str = "hook", **fields: Any) -> Channel:
    return channel_lifecycle.create_channel({"name": name, "kind": "webhook", "url": url} | fields, "user:admin")


def create_rule(**fields: Any) -> Rule:
    return lifecycle.create(RULE_FIELDS | fields, "user:mei")


def create_notifying_rule(name: str = "too hot", channels: Sequence[str] = ("hook",), **fields: Any) -> Rule:
    """Create a rule of level warning that notifies channels."""
    return create_rule(name=name, notification_channels=list(channels), **{"level": "warning"} | fields)


def create_device(device_id: str, group: str | None = None) -> Device:
    """Return the device, created if it does not exist, as a member of the group."""
    device = Device.objects.get_or_create(device_id=device_id)[0]
    if group is not None:
        group_membership.add_devices(DeviceGroup.objects.get_or_create(name=group)[0], [device.pk])
    return device


def create_devices(count: int, group: str = "", prefix: str = "device") -> list[Device]:
    devices = Device.objects.bulk_create(Device(device_id=f"{prefix}_{n:04}") for n in range(count))
    if group:
        DeviceGroup.objects.get_or_create(name=group)[0].devices.add(*devices)
    return devices


def build_alert(rule: Rule, device: Device, at: datetime | None = None, **fields: Any) -> Alert:
    """Return an alert that is not stored, triggered and raised at the given time (default: now)."""
    at = at or timezone.now()
    defaults = {
        "rule": rule,
        "rule_name": rule.name,
        "rule_version": rule.version,
        "device": device,
        "device_name": device.device_id,
        "metric_name": rule.metric_name,
        "level": rule.level,
        "value": 97.5,
        "threshold": rule.threshold_value,
        "message": f"{rule.name} at {device.device_id}",
        "evidence": {"values": [{"timestamp": at.isoformat(), "value": 97.5, "breach": True}]},
        "triggered_at": at,
        "raised_at": at,
        "last_breach_at": at,
    }
    return Alert(**defaults | fields)


def create_alerts(rule: Rule, *devices: Device, **fields: Any) -> list[Alert]:
    """Open one alert of the rule for each device in one call, as the evaluator does."""
    return alert_actions.open_alerts([build_alert(rule, device, **fields) for device in devices])


def create_alert(rule: Rule, device: Device, minutes: int = 0, **fields: Any) -> Alert:
    """Open an alert triggered `minutes` after NOON and raised now."""
    alert = build_alert(rule, device, NOON + timedelta(minutes=minutes), **{"raised_at": timezone.now()} | fields)
    return alert_actions.open_alerts([alert])[0]
