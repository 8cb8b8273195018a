"""Create the demo data set."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import transaction

from alerts import alert_actions
from alerts.models import Alert, Status
from alerts.rules.as_code.apply import apply
from dashboard.demo import content
from dashboard.demo.content import COMPLETE, FLEET, MARK, SENT_UNTIL, UNTIL
from dashboard.demo.evaluation import evaluate
from dashboard.demo.incidents import Incidents
from dashboard.demo.points import store_history
from dashboard.demo.status_page import create_status_page
from metrics.audit.actor import acting_as
from metrics.devices.group_membership import add_devices
from metrics.models import Device, DeviceGroup, MetricDefinition
from rest.caller import Caller
from telemetry_client.simulator.device_types import DEVICE_TYPES
from telemetry_client.simulator.registration import definition_of, device_fields

CALLER = Caller.internal("command:demo")
StepCallback = Callable[[str], None]


class DemoConflict(Exception):
    """An object of the site has a name that the demo needs; the message is for the user."""


@dataclass(frozen=True, slots=True)
class InstallResult:
    """Result of an installation; `is_new` is false if the data set existed.

    until       end of the history, ms
    sent_until  until when the devices have sent, ms
    """

    is_new: bool
    points: int
    until: int
    sent_until: int
    is_evaluated: bool = True


def install(on_step: StepCallback, now: int | None = None) -> InstallResult:
    """Create the data set, with a history until now (ms); continue an installation that was stopped.

    Raises DemoConflict, before anything is changed.
    """
    first = Device.objects.filter(device_id=FLEET.device(0).device_id).first()
    until = int(first.metadata[UNTIL]) if first is not None and UNTIL in first.metadata else None
    if first is not None and until is not None and COMPLETE in first.metadata:
        return InstallResult(False, 0, until, first.metadata.get(SENT_UNTIL, until))
    until = until or now or time.time_ns() // 1_000_000
    with acting_as(CALLER):
        with transaction.atomic():
            _create_definitions()
            _create_devices(until)
        silenced = Incidents.until(until).silenced_device
        silences = content.silences(datetime.fromtimestamp(until / 1000, UTC), silenced)
        _apply({"rules": content.rules(), "silences": silences})
        on_step("Storing the history")
        points = store_history(until, CALLER)
        on_step("Evaluating the rules")
        is_evaluated = evaluate()
        _handle_alerts()
        create_status_page(datetime.fromtimestamp(until / 1000, UTC), CALLER)
        _mark_complete()
    return InstallResult(True, points, until, until, is_evaluated)


def _create_definitions() -> None:
    metrics = {metric.name: metric for device_type in DEVICE_TYPES for metric in device_type.metrics}
    for metric in metrics.values():
        stored = MetricDefinition.objects.filter(name=metric.name).first()
        fields = definition_of(metric)
        if stored is None:
            definition = MetricDefinition(**fields, metadata={MARK: True}, created_by=CALLER.name)
            definition.full_clean()
            definition.save()
        elif stored.data_type != fields["data_type"]:
            needed = fields["data_type"]
            raise DemoConflict(f"metric {metric.name} is defined as {stored.data_type}; the demo needs {needed}")


def _create_devices(until: int) -> None:
    members: dict[str, list[int]] = {}
    for device in FLEET.devices:
        stored = Device.objects.filter(device_id=device.device_id).first()
        if stored is None:
            fields = device_fields(device)
            metadata = fields.pop("metadata") | {MARK: True, UNTIL: until}
            stored = Device(**fields, metadata=metadata)
            stored.full_clean()
            stored.save()
        elif MARK not in stored.metadata:
            raise DemoConflict(f"device {device.device_id} exists and is not of the demo; delete it first")
        for name in (content.place_group(device), content.type_group(device)):
            members.setdefault(name, []).append(stored.pk)
    for name, devices in members.items():
        group, _ = DeviceGroup.objects.get_or_create(name=name, defaults={"description": content.GROUP_DESCRIPTION})
        if group.description != content.GROUP_DESCRIPTION:
            raise DemoConflict(f"device group {name} exists and is not of the demo; rename it first")
        add_devices(group, devices)


def _apply(sections: dict[str, object]) -> None:
    apply(json.dumps({"version": 1, **sections}).encode(), os.environ)


def _handle_alerts() -> None:
    """Acknowledge and assign some of the open alerts, as operators would have."""
    open_alerts = Alert.objects.filter(rule__rule_id__startswith=content.PREFIX, status=Status.ACTIVE)
    by_rule = {f"{content.PREFIX}vibration": "Bearing is ordered, arrives on Thursday", f"{content.PREFIX}silent": ""}
    for rule_id, note in by_rule.items():
        alerts = open_alerts.filter(rule__rule_id=rule_id)
        if note:
            alert_actions.acknowledge(alerts, CALLER.name, note)
        else:
            alert_actions.comment(alerts, CALLER.name, "The provider reports an outage of the mobile network")


def _mark_complete() -> None:
    first = Device.objects.get(device_id=FLEET.device(0).device_id)
    first.metadata[COMPLETE] = True
    first.save()


def save_progress(until: int) -> None:
    """Save until when (ms) the devices have sent, for the next run. Without an entry in the audit log."""
    first = Device.objects.get(device_id=FLEET.device(0).device_id)
    Device.objects.filter(pk=first.pk).update(metadata=first.metadata | {SENT_UNTIL: until})
