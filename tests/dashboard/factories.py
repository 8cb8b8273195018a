"""Alerts and users for the tests of the pages."""

from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.test import Client
from django.utils import timezone

from alerts import alert_actions
from alerts.models import Alert, Rule
from metrics.models import Device, DeviceGroup
from rest.caller import OPERATORS


def open_alert(rule: Rule, device_id: str, message: str, minutes_ago: float = 5, **overrides: Any) -> Alert:
    """Open an alert as the evaluator does."""
    device = Device.objects.get_or_create(device_id=device_id)[0]
    triggered_at = timezone.now() - timedelta(minutes=minutes_ago)
    fields = {"level": rule.level, "metric_name": rule.metric_name, "value": 4.25, "threshold": 2.0} | overrides
    alert = Alert(
        rule=rule,
        rule_name=rule.name,
        device=device,
        device_name=device_id,
        message=message,
        triggered_at=triggered_at,
        raised_at=triggered_at,
        last_breach_at=triggered_at,
        **fields,
    )
    return alert_actions.open_alerts([alert])[0]


def queryset_of(alert: Alert) -> Any:
    """Return the query set of one alert, as alert_actions take it."""
    return Alert.objects.filter(pk=alert.pk)


def client_of(name: str, *, operates: bool = False, group: str = "site a") -> Client:
    """Return the client of a new user in a device group."""
    user = get_user_model().objects.create_user(name)
    DeviceGroup.objects.get_or_create(name=group)[0].members.add(user)
    if operates:
        user.groups.add(Group.objects.get_or_create(name=OPERATORS)[0])
    client = Client()
    client.force_login(user)
    return client
