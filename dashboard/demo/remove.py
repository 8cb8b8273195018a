"""Delete the demo data set."""

from dataclasses import dataclass

from django.db import transaction

from alerts.models import Alert, Incident, Rule, Silence
from alerts.rules import lifecycle
from dashboard.demo import content
from dashboard.demo.content import MARK
from dashboard.demo.install import CALLER
from dashboard.demo.status_page import delete_status_page
from metrics.audit.actor import acting_as
from metrics.devices.delete_device import delete_device
from metrics.models import Device, DeviceGroup, MetricDefinition, Series


@dataclass(frozen=True, slots=True)
class RemoveResult:
    """Numbers of deleted objects. `kept_definitions`: metrics that other devices send too."""

    devices: int
    rules: int
    alerts: int
    definitions: int
    kept_definitions: list[str]


def remove() -> RemoveResult:
    """Delete everything that the demo has created; workers delete the stored points in the background."""
    with acting_as(CALLER), transaction.atomic():
        delete_status_page()
        for silence in Silence.objects.filter(silence_id__startswith=content.PREFIX):
            silence.delete()
        rules = list(Rule.objects.filter(rule_id__startswith=content.PREFIX))
        alerts = _delete_alerts(rules)
        for rule in rules:
            lifecycle.delete(rule, CALLER.name)
        devices = list(
            Device.objects.filter(device_id__startswith=content.PREFIX, metadata__has_key=MARK).values_list(
                "device_id", flat=True
            )
        )
        for device_id in devices:
            delete_device(device_id, CALLER)
        for group in DeviceGroup.objects.filter(name__in=content.group_names()):
            if group.description == content.GROUP_DESCRIPTION:
                group.delete()
        definitions, kept = _delete_definitions()
        return RemoveResult(len(devices), len(rules), alerts, definitions, kept)


def _delete_alerts(rules: list[Rule]) -> int:
    """Delete the alerts of the demo's rules, and the incidents that have no other alerts."""
    alerts = Alert.objects.filter(rule__in=rules)
    incidents = set(alerts.exclude(incident=None).values_list("incident", flat=True))
    count = alerts.count()
    alerts.delete()
    Incident.objects.filter(pk__in=incidents, alerts=None).delete()
    return count


def _delete_definitions() -> tuple[int, list[str]]:
    """Return how many definitions were deleted, and the metrics of those that other devices use."""
    deleted, kept = 0, []
    for definition in MetricDefinition.objects.filter(**{f"metadata__{MARK}": True}):
        if Series.objects.filter(metric_name=definition.name).exists():
            kept.append(definition.name)
        else:
            definition.delete()
            deleted += 1
    return deleted, kept
