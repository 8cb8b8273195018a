"""Rows of every model in the admin, for tests."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.utils import timezone

from alerts.models import Alert, AnomalyFeedback, Channel, Delivery, Incident, Route, Rule, Silence
from dashboard.status_page.models import (
    IncidentTemplate,
    StatusComponent,
    StatusDelivery,
    StatusIncident,
    StatusPage,
    StatusSubscriber,
)
from ingest.models import (
    AgentConfiguration,
    Annotation,
    ApiKey,
    Collection,
    Collector,
    CollectorState,
    Rejected,
    digest_of,
)
from ingest.wire.batch import RejectionReason
from metrics.audit.record import record
from metrics.models import DamagedBlock, Device, DeviceGroup, ExportJob, MetricDefinition, Series
from rest.caller import Scope
from telemetry_site.bus.models import BusTarget, ParkedMessage

DAY = 86_400_000_000


def create_devices(numbers: range) -> list[Device]:
    return Device.objects.bulk_create(Device(device_id=f"a{number:06}") for number in numbers)


def create_groups(numbers: range) -> None:
    DeviceGroup.objects.bulk_create(DeviceGroup(name=f"a{number:06}") for number in numbers)


def create_definitions(numbers: range) -> None:
    definitions = (MetricDefinition(name=f"a{number:06}", data_type="numeric") for number in numbers)
    MetricDefinition.objects.bulk_create(definitions)


def create_agent_configurations(numbers: range) -> None:
    devices = Device.objects.bulk_create(Device(device_id=f"agent{number:06}") for number in numbers)
    AgentConfiguration.objects.bulk_create(AgentConfiguration(device=device, version=1) for device in devices)


def create_users(numbers: range) -> None:
    get_user_model().objects.bulk_create(get_user_model()(username=f"a{number:06}") for number in numbers)


def create_keys(numbers: range) -> None:
    names_and_devices = (
        (f"a{number:06}", device) for number, device in zip(numbers, create_devices(numbers), strict=True)
    )
    ApiKey.objects.bulk_create(
        ApiKey(name=name, scope=Scope.INGEST, prefix="tk_aaaaa", digest=digest_of(name), device=device)
        for name, device in names_and_devices
    )


def create_series(numbers: range) -> None:
    numbered_devices = zip(numbers, create_devices(numbers), strict=True)
    Series.objects.bulk_create(
        Series(pk=n + 1, device=device, metric_name=f"a{n}", kind=0) for n, device in numbered_devices
    )


def create_exports(numbers: range) -> None:
    parameters = {"devices": [], "metrics": ["a"]}
    ExportJob.objects.bulk_create(
        ExportJob(owner=f"a{number}", question=parameters, format="csv", files=[]) for number in numbers
    )


def create_bus_targets(numbers: range) -> None:
    BusTarget.objects.bulk_create(BusTarget(name=f"a{number}", reported_at=timezone.now()) for number in numbers)


def create_parked_messages(numbers: range) -> None:
    ParkedMessage.objects.bulk_create(
        ParkedMessage(direction="inbound", peer="a", message_id=f"a{number}", payload=b"{}", size=2, reason="a")
        for number in numbers
    )


def create_damaged_blocks(numbers: range) -> None:
    DamagedBlock.objects.bulk_create(
        DamagedBlock(shard=0, level=1, number=n, seq_from=n, seq_to=n, time_from=n * DAY, time_to=n * DAY, points=1,
                     payload=b"") for n in numbers
    )  # fmt: skip


def create_audit_entries(numbers: range) -> None:
    for number in numbers:
        record("changed", ("device", f"a{number}"), {"name": "a"}, {"name": "b"})


def create_rejected(numbers: range) -> None:
    now = timezone.now()
    Rejected.objects.bulk_create(
        Rejected(sender="a", device_id=f"a{n}", metric_name="a", reason=RejectionReason.TOO_OLD,
                 first_at=now, last_at=now, count=1, detail="old") for n in numbers
    )  # fmt: skip


def create_collectors(numbers: range) -> None:
    rows = Collector.objects.bulk_create(
        Collector(name=f"c{n}", kind="tcp", device_id=f"a{n}", configuration={"host": "192.0.2.1", "port": 1})
        for n in numbers
    )
    CollectorState.objects.bulk_create(CollectorState(collector=row, due_at=timezone.now()) for row in rows)


def create_collections(numbers: range) -> None:
    create_collectors(numbers)
    Collection.objects.bulk_create(
        Collection(snapshot_id=f"s{row.pk}", collector=row, device_id="a", started_at=timezone.now(), late_ms=1,
                   duration_ms=1, points=1, rejected=0)
        for row in Collector.objects.order_by("-pk")[: len(numbers)]
    )  # fmt: skip


def create_annotations(numbers: range) -> None:
    Annotation.objects.bulk_create(
        Annotation(device_id="a", at=timezone.now(), deployment_id=f"d{n}", version="1", state="done") for n in numbers
    )


def create_alert_rules(numbers: range) -> list[Rule]:
    threshold = {"metric_name": "m", "threshold_value": 1.0}
    return Rule.objects.bulk_create(Rule(name=f"a{number:06}", **threshold) for number in numbers)


def create_alerts(numbers: range) -> None:
    now = timezone.now()
    rules_and_devices = zip(numbers, create_alert_rules(numbers), create_devices(numbers), strict=True)
    Alert.objects.bulk_create(
        Alert(rule=rule, rule_name=rule.name, device=device, device_name=device.device_id, metric_name="m",
              level="error", message=f"a{n}", triggered_at=now, last_breach_at=now)
              for n, rule, device in rules_and_devices
    )  # fmt: skip


def create_incidents(numbers: range) -> None:
    Incident.objects.bulk_create(Incident(cause="group:a", title=f"a{number}") for number in numbers)


def create_silences(numbers: range) -> None:
    end = timezone.now() + timedelta(hours=1)
    Silence.objects.bulk_create(
        Silence(device_ids=["a"], ends_at=end, reason=f"a{number}", created_by="user:a") for number in numbers
    )


def create_channels(numbers: range) -> None:
    Channel.objects.bulk_create(Channel(name=f"a{n:06}", kind="action", action="log_alert") for n in numbers)


def create_routes(numbers: range) -> None:
    Route.objects.bulk_create(Route(name=f"a{number:06}", channels=["a"]) for number in numbers)


def create_feedback(numbers: range) -> None:
    AnomalyFeedback.objects.bulk_create(
        AnomalyFeedback(alert_id=f"alt_{number}", series=number, is_anomaly=False, gravity=1.5) for number in numbers
    )


def create_deliveries(numbers: range) -> None:
    Delivery.objects.bulk_create(Delivery(channel_name="a", title=f"a{number}", payload={}) for number in numbers)


def create_status_pages(numbers: range) -> list[StatusPage]:
    return StatusPage.objects.bulk_create(StatusPage(slug=f"a{number}", title=f"a{number}") for number in numbers)


def create_status_components(numbers: range) -> None:
    [page] = create_status_pages(range(numbers.start, numbers.start + 1))
    StatusComponent.objects.bulk_create(StatusComponent(page=page, name=f"a{number}") for number in numbers)


def create_status_incidents(numbers: range) -> None:
    [page] = create_status_pages(range(numbers.start, numbers.start + 1))
    StatusIncident.objects.bulk_create(
        StatusIncident(page=page, title=f"a{number}", status="resolved") for number in numbers
    )


def create_incident_templates(numbers: range) -> None:
    [page] = create_status_pages(range(numbers.start, numbers.start + 1))
    IncidentTemplate.objects.bulk_create(IncidentTemplate(page=page, name=f"a{n}", title=f"a{n}") for n in numbers)


def create_status_subscribers(numbers: range) -> list[StatusSubscriber]:
    [page] = create_status_pages(range(numbers.start, numbers.start + 1))
    return StatusSubscriber.objects.bulk_create(
        StatusSubscriber(page=page, kind="email", address=f"a{number}@example.com") for number in numbers
    )


def create_status_deliveries(numbers: range) -> None:
    StatusDelivery.objects.bulk_create(
        StatusDelivery(subscriber=subscriber) for subscriber in create_status_subscribers(numbers)
    )


CREATE_ROWS: dict[str, Callable[[range], Any]] = {
    "alerts.Rule": create_alert_rules,
    "alerts.Alert": create_alerts,
    "alerts.Incident": create_incidents,
    "alerts.Silence": create_silences,
    "alerts.Channel": create_channels,
    "alerts.Route": create_routes,
    "alerts.Delivery": create_deliveries,
    "alerts.AnomalyFeedback": create_feedback,
    "ingest.Collector": create_collectors,
    "ingest.Collection": create_collections,
    "ingest.Annotation": create_annotations,
    "ingest.Rejected": create_rejected,
    "bus.BusTarget": create_bus_targets,
    "bus.ParkedMessage": create_parked_messages,
    "metrics.Device": create_devices,
    "metrics.DeviceGroup": create_groups,
    "metrics.MetricDefinition": create_definitions,
    "metrics.Series": create_series,
    "metrics.ExportJob": create_exports,
    "metrics.DamagedBlock": create_damaged_blocks,
    "metrics.AuditEntry": create_audit_entries,
    "auth.User": create_users,
    "dashboard.StatusPage": create_status_pages,
    "dashboard.StatusComponent": create_status_components,
    "dashboard.StatusIncident": create_status_incidents,
    "dashboard.IncidentTemplate": create_incident_templates,
    "dashboard.StatusSubscriber": create_status_subscribers,
    "dashboard.StatusDelivery": create_status_deliveries,
    "ingest.ApiKey": create_keys,
    "ingest.AgentConfiguration": create_agent_configurations,
}
