"""A site with two device groups whose every object is unmistakable, to find what of one group the other one sees.

All objects of a group have its word in their names and texts, and values of its own.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.utils import timezone

from alerts import silences
from alerts.alert_actions import open_alerts
from alerts.models import Alert, Delivery, Notice, Pattern, Rule, Silence
from alerts.notifications import channel_lifecycle
from dashboard.models import Subscription
from dashboard.status_page import incidents as status_incidents
from dashboard.status_page import lifecycle as status_pages
from dashboard.status_page.models import IncidentKind, IncidentTemplate
from ingest.models import ApiKey, Collector, CollectorState, Rejected
from metrics.api.parameters import Query
from metrics.devices import group_membership
from metrics.export import jobs
from metrics.models import Deletion, Device, DeviceGroup
from rest.caller import OPERATORS, Caller, Scope
from tests.alerts.factories import build_alert, create_alerts, create_rule
from tests.conftest import ApiClient, point

VALUES = {"alpha": 12345.5, "beta": 98765.25}
NUMBERS = {"alpha": 7070701, "beta": 7070702}  # primary keys that nothing else contains
ADMIN = Caller.internal("user:setup")
MISSING = {  # IDs of objects that do not exist, in the form of those that do
    "device_id": "gamma-device", "metric_name": "gamma_metric", "name": "gamma-group",
    "alert_id": "alt_00000000gamma00", "rule_id": "rule_0000000gamma00", "silence_id": "sil_00000000gamma00",
    "channel_id": "chn_00000000gamma00",
    "route_id": "rte_00000000gamma00", "export_id": "exp_00000000gamma00", "deletion_id": "del_00000000gamma00",
    "snapshot_id": "snap_0000000000gamma000", "subscription_id": "sub_000000000000000000gamma",
    "key_id": "4040404", "number": "4040404", "version": "1", "collector_id": "col_00000000gamma00", "kind": "tcp",
    "page_id": "page_00000000gamma00", "component_id": "cmp_00000000gamma00", "incident_id": "sin_00000000gamma00",
    "template_id": "tpl_00000000gamma00", "slug": "gamma", "token": "gamma",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Site:
    """The objects of one device group, and their IDs by the names of URL parameters."""

    word: str
    group: DeviceGroup
    rule: Rule
    alert: Alert
    silence: Silence
    ids: dict[str, str]


def create_site(word: str, admin: ApiClient) -> Site:
    """Create a group with a device, and an object of every kind that belongs to it."""
    value, device_id = VALUES[word], f"{word}-device"
    group = DeviceGroup.objects.create(name=f"{word}-group", description=f"{word}-group-text")
    sent = admin.post(f"devices/{device_id}/telemetry", point(f"{word}_metric", value, tags={"of": f"{word}-tag"}))
    assert sent.status == 200
    device = Device.objects.get(device_id=device_id)
    device.metadata, device.location = {"of": f"{word}-metadata"}, f"{word}-place"
    device.save()
    group_membership.add_devices(group, [device.pk])
    channel = channel_lifecycle.create_channel(
        {"name": f"{word}-channel", "kind": "email", "addresses": [f"mail@{word}.example"]}, "user:setup"
    )
    rule = create_rule(
        name=f"{word}-rule",
        description=f"{word}-rule-text",
        metric_name=f"{word}_metric",
        device_groups=[group.name],
        notification_channels=[channel.name],
    )
    route = channel_lifecycle.create_route(
        {"name": f"{word}-route", "device_groups": [group.name], "channels": [channel.name]}, "user:setup"
    )
    [alert] = create_alerts(rule, device, value=value, message=f"{word}-message")
    alert.events.create(kind="commented", by="user:setup", note=f"{word}-note")
    create_delivery([alert], f"{word}-delivery", channel.name)
    silence = create_silence(f"{word}-silence", device_ids=[device_id])
    Pattern.objects.create(
        kind="flapping", subject={"rule": rule.name}, support=4, confidence=0.9, devices=[device_id],
        description=f"{word}-pattern",
    )  # fmt: skip
    now = timezone.now()
    rejected = Rejected.objects.create(
        pk=NUMBERS[word],
        sender=f"{word}-sender", device_id=device_id, metric_name=f"{word}_bad", reason="out_of_bounds", first_at=now,
        last_at=now, count=3, detail=f"{word}-detail",
    )  # fmt: skip
    deletion = Deletion.objects.create(device_id=f"{word}-deleted", requested_by="user:setup", series=[], heads={})
    query = Query((f"{word}_metric",), now - timedelta(hours=1), now, (device_id,))
    export = jobs.create_job(f"user:{word}-operator", query, "csv")
    subscription = Subscription.objects.create(
        subscription_id=f"sub_0000000000000000000{word}",
        owner=f"user:{NUMBERS[word]}",
        device_ids=[device_id],
        max_frequency=1000,
        expires_at=now + timedelta(hours=1),
    )
    collector = create_collector(word, device_id)
    key, _ = ApiKey.issue(f"{word}-key", Scope.READ, group=group, pk=NUMBERS[word])
    ids = {
        "device_id": device_id, "metric_name": f"{word}_metric", "name": group.name, "alert_id": alert.alert_id,
        "rule_id": rule.rule_id, "silence_id": silence.silence_id, "channel_id": channel.channel_id,
        "route_id": route.route_id, "export_id": export.export_id, "deletion_id": deletion.deletion_id,
        "snapshot_id": f"snap_0000000000{word}00", "subscription_id": subscription.subscription_id,
        "key_id": str(key.pk), "number": str(rejected.pk), "version": "1", "collector_id": collector.collector_id,
        "kind": "tcp",
        **create_status_page(word, group.name),
    }  # fmt: skip
    return Site(word, group, rule, alert, silence, ids)


def create_status_page(word: str, *groups: str) -> dict[str, str]:
    """Create an unpublished status page about device groups, with an object of every kind; return the IDs."""
    page = status_pages.create_page({"title": f"{word}-status-page", "slug": word}, ADMIN)
    component = status_pages.create_component(page, {"name": f"{word}-component", "device_groups": [*groups]}, ADMIN)
    fields = {"title": f"{word}-outage", "components": [component]}
    incident = status_incidents.create_incident(page, IncidentKind.INCIDENT, fields, ADMIN)
    template = IncidentTemplate.objects.create(page=page, name=f"{word}-template", title=f"{word}-template")
    return {
        "page_id": page.page_id, "component_id": component.component_id, "incident_id": incident.incident_id,
        "template_id": template.template_id, "slug": word, "token": word,
    }  # fmt: skip


def create_collector(word: str, device_id: str) -> Collector:
    """Create a collector with a journal row and an annotation."""
    now = timezone.now()
    collector = Collector.objects.create(
        collector_id=f"col_00000000{word}00", name=f"{word}-collector", kind="tcp", device_id=device_id,
        configuration={"host": f"{word}-target.example", "port": 1},
    )  # fmt: skip
    CollectorState.objects.create(collector=collector, due_at=now, started_at=now, error=f"{word}-failure")
    collector.collections.create(
        snapshot_id=f"snap_0000000000{word}00", device_id=device_id, started_at=now, late_ms=1, duration_ms=1, points=1,
        rejected=0, error=f"{word}-failure",
    )  # fmt: skip
    collector.annotations.create(device_id=device_id, at=now, deployment_id="d", version=f"{word}-release", state="x")
    return collector


def create_shared_objects(alpha: Site, beta: Site) -> dict[str, str]:
    """Create a rule, a silence, alerts and a delivery of both groups; return the IDs of the rule and silence."""
    devices = [f"{site.word}-device" for site in (alpha, beta)]
    rule = create_rule(
        name="shared-rule", device_ids=devices, device_groups=[alpha.group.name, beta.group.name], metric_name="shared"
    )
    alerts = [build_alert(rule, Device.objects.get(device_id=name), message=f"{name}-shared") for name in devices]
    create_delivery(open_alerts(alerts), "beta-and-alpha-delivery", "shared-channel")
    silence = create_silence("shared-silence", device_ids=devices)
    create_status_page("shared", alpha.group.name, beta.group.name)
    create_silence("global-silence", levels=["info"])
    create_rule(name="global-rule", metric_name="global_metric")
    return {"rule_id": rule.rule_id, "silence_id": silence.silence_id}


def create_silence(reason: str, **fields: Any) -> Silence:
    return silences.create_silence(fields | {"reason": reason, "ends_at": timezone.now() + timedelta(hours=1)}, ADMIN)


def create_delivery(alerts: list[Alert], title: str, channel: str) -> Delivery:
    """Create a delivery that carried these alerts."""
    delivery = Delivery.objects.create(channel_name=channel, title=title, payload={"title": title}, answer=title)
    Notice.objects.bulk_create(
        Notice(alert=alert, channel_name=channel, kind="fired", status="sent", delivery=delivery) for alert in alerts
    )
    return delivery


def create_user(name: str, group: DeviceGroup | None, operates: bool) -> Any:
    """Create a user in a device group, or in none."""
    user = get_user_model().objects.create_user(name)
    if group is not None:
        group.members.add(user)
    if operates:
        user.groups.add(Group.objects.get_or_create(name=OPERATORS)[0])
    return user
