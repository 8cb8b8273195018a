"""Alerts for tests that need some, raised as the evaluator raises them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from alerts import alert_actions
from alerts.models import Alert, Rule
from alerts.rules import lifecycle
from metrics.devices import group_membership
from metrics.models import Device, DeviceGroup

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOT: dict[str, Any] = {"name": "Too hot", "metric_name": "temperature", "condition": ">", "threshold_value": 80}


def rule(**more: Any) -> Rule:
    return lifecycle.create(HOT | more, "user:mei")


def device(name: str, group: str | None = None) -> Device:
    """A device, in a group if one is named."""
    found = Device.objects.get_or_create(device_id=name)[0]
    if group is not None:
        group_membership.add(DeviceGroup.objects.get_or_create(name=group)[0], [found.pk])
    return found


def alert(of: Rule, at: Device, minutes: int = 0, **more: Any) -> Alert:
    """An alert of a rule, triggered so many minutes after noon."""
    then = NOON + timedelta(minutes=minutes)
    fields: dict[str, Any] = {
        "rule": of,
        "rule_name": of.name,
        "rule_version": of.version,
        "device": at,
        "device_name": at.device_id,
        "metric_name": of.metric_name,
        "level": of.level,
        "value": 97.5,
        "threshold": of.threshold_value,
        "message": f"{of.metric_name} of {at.device_id} is 97.5",
        "evidence": {"values": [91.0, 97.5]},
        "triggered_at": then,
        "last_breach_at": then,
    }
    [made] = alert_actions.raise_alerts([Alert(**fields | more)])
    return made
