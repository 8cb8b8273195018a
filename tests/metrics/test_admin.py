"""Admin pages: every list opens, searches, and needs no more statements for many rows."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
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
from metrics.audit.model_changes import watched_models
from metrics.audit.record import record
from metrics.devices import group_membership
from metrics.models import (
    AuditEntry,
    DamagedBlock,
    Device,
    DeviceGroup,
    ExportJob,
    MetricDefinition,
    Series,
)
from metrics.storage.connection import connect
from metrics.storage.write.journal import pack_journal
from rest.caller import OPERATORS, Caller, Scope
from telemetry_site.bus.models import BusTarget, ParkedMessage
from tests.metrics.test_storage import TODAY, store_points

REGISTERED = {model._meta.label: model for model in admin.site._registry}
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


@pytest.fixture
def browser(site: None) -> Client:
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("boss"))
    return client


def count_statements(browser: Client, pages: list[str]) -> dict[str, int]:
    """Return the number of SQL statements of each page."""
    counts = {}
    for page in pages:
        with CaptureQueriesContext(connection) as captured:
            response = browser.get(page)
        assert response.status_code == 200, (page, response.status_code)
        counts[page] = len(captured)
    return counts


def pages_of(model: Any, browser: Client) -> list[str]:
    options = model._meta
    base = f"/admin/{options.app_label}/{options.model_name}/"
    row = f"{base}{model._base_manager.latest('pk').pk}/"
    pages = [base, base + "?q=a0", f"{row}change/", f"{row}history/"]
    registered: Any = admin.site._registry[model]
    request = browser.get("/admin/").wsgi_request
    pages += [base + "add/"] if registered.has_add_permission(request) else []
    pages += [f"{row}delete/"] if registered.has_delete_permission(request) else []
    return pages


@pytest.mark.slow
@pytest.mark.parametrize("label", sorted(REGISTERED))
def test_admin_list_statements_do_not_grow_with_rows(browser: Client, label: str):
    model, create_rows = REGISTERED[label], CREATE_ROWS[label]
    create_rows(range(10))
    count_statements(browser, pages_of(model, browser))  # fill the caches of the process
    counts_of_few = count_statements(browser, pages_of(model, browser))
    create_rows(range(10, 1000))
    counts_of_many = count_statements(browser, list(counts_of_few))
    assert counts_of_many == counts_of_few and max(counts_of_many.values()) <= 16


@pytest.mark.parametrize("label", sorted(REGISTERED))
def test_every_editable_model_is_audited(browser: Client, label: str):
    registered: Any = admin.site._registry[REGISTERED[label]]
    request = browser.get("/admin/").wsgi_request
    if registered.has_add_permission(request) or registered.has_change_permission(request):
        assert REGISTERED[label] in watched_models


@pytest.mark.slow
def test_admin_index_lists_all_models_in_order(browser: Client):
    page = browser.get("/admin/").content.decode()
    content = page[page.index('id="content-main"') :]
    names = re.findall(r'<th scope="row"[^>]*>\s*<a href="[^"]*">([^<]+)', content)
    assert names == [
        "Devices", "Device groups", "Metric definitions", "Series", "Alert rules", "Alerts", "Incidents", "Silences",
        "Channels", "Routes", "Deliveries", "Anomaly feedback", "Status pages", "Components",
        "Incidents and maintenance", "Templates", "Subscribers", "Messages", "Collectors", "Collections",
        "Deployments", "People", "API keys", "Agent configurations", "Audit", "Journal", "Rejected points", "Exports",
        "Damaged blocks", "Bus targets", "Parked messages",
    ]  # fmt: skip
    for address in re.findall(r'<th scope="row"[^>]*>\s*<a href="([^"]*)"', content):
        assert browser.get(address).status_code == 200


def test_admin_pages_are_for_admins_only(site: None):
    client = Client()
    client.force_login(get_user_model().objects.create_user("viewer"))
    assert client.get("/admin/").status_code == 302
    assert client.get("/admin/journal/").status_code == 302


def test_long_list_is_counted_up_to_the_limit(browser: Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("metrics.admin.base.MAX_COUNTED_ROWS", 100)
    create_series(range(150))
    assert browser.get("/admin/metrics/series/").context["cl"].result_count == 100


def test_group_filter_offers_first_groups_and_the_selected_one(browser: Client):
    create_groups(range(1000))
    last = DeviceGroup.objects.get(name="a000999")
    page = browser.get(f"/admin/metrics/device/?groups__id__exact={last.pk}").content.decode()
    assert len(set(re.findall(r'href="\?groups__id__exact=(\d+)', page))) == 31 and "a000999" in page


# --- devices and definitions ------------------------------------------------------------------------


def test_selected_devices_are_removed_from_group(browser: Client):
    created = create_devices(range(10))
    east = DeviceGroup.objects.create(name="east")
    group_membership.add_devices(east, [device.pk for device in created])
    form = {"action": "remove_from_group", "group": east.pk, "_selected_action": [created[0].pk, created[1].pk]}
    page = browser.post("/admin/metrics/device/", form, follow=True).content.decode()
    assert "2 devices were removed from east" in page and east.devices.count() == 8
    entry = AuditEntry.objects.latest("pk")
    assert (entry.actor, entry.object_id, entry.was) == ("user:boss", "east", {"devices": {"count": 2}})


def test_bulk_retention_change_is_audited_per_metric(browser: Client):
    create_definitions(range(20))
    form = {"action": "change_retention", "days": 7, "select_across": "1", "_selected_action": ["1"]}
    page = browser.post("/admin/metrics/metricdefinition/?q=a00001", form, follow=True).content.decode()
    assert "Retention of 10 metrics is now 7 days" in page
    assert MetricDefinition.objects.filter(retention_days=7).count() == 10
    entries = AuditEntry.objects.filter(action="changed", object_type="metric definition", actor="user:boss")
    assert entries.count() == 10 and entries[0].became == {"retention_days": 7}


@pytest.mark.parametrize("days", ["", "0", "soon", "99999"])
def test_invalid_retention_changes_nothing(browser: Client, days: str):
    create_definitions(range(3))
    selected = list(MetricDefinition.objects.values_list("pk", flat=True))
    browser.post(
        "/admin/metrics/metricdefinition/",
        {"action": "change_retention", "days": days, "_selected_action": selected},
    )
    assert set(MetricDefinition.objects.values_list("retention_days", flat=True)) == {90}


# --- users ------------------------------------------------------------------------------------------


def save_user(browser: Client, person: Any, **fields: Any) -> Any:
    form = {"username": person.username, "is_active": "on"} | fields
    return browser.post(f"/admin/auth/user/{person.pk}/change/", form)


@pytest.mark.parametrize(
    ("role", "scope"), [("viewer", Scope.READ), ("operator", Scope.OPERATE), ("admin", Scope.ADMIN)]
)
def test_role_can_be_assigned_and_removed(browser: Client, role: str, scope: str):
    mei = get_user_model().objects.create_user("mei")
    east = DeviceGroup.objects.create(name="east")
    for new_role, expected in ((role, scope), ("viewer", Scope.READ)):
        assert save_user(browser, mei, role=new_role, device_groups=[east.pk]).status_code == 302
        mei = get_user_model().objects.get(pk=mei.pk)
        caller = Caller.of_user(mei)
        assert caller.scope == expected and caller.groups == (None if expected == Scope.ADMIN else ("east",))
        assert mei.is_staff == (new_role == "admin")
    assert AuditEntry.objects.filter(object_id="mei", actor="user:boss", after__contains="east").exists()


def test_users_are_filtered_by_role(browser: Client):
    create_users(range(3))
    get_user_model().objects.get(username="a000001").groups.add(Group.objects.create(name=OPERATORS))
    names_by_role = {
        role: [user.username for user in browser.get(f"/admin/auth/user/?role={role}").context["cl"].result_list]
        for role in ("admin", "operator", "viewer")
    }
    assert names_by_role == {"admin": ["boss"], "operator": ["a000001"], "viewer": ["a000000", "a000002"]}


def test_last_admin_cannot_be_removed(browser: Client):
    boss = get_user_model().objects.get()
    response = save_user(browser, boss, role="viewer")
    assert response.status_code == 200 and "last active admin" in response.content.decode()
    browser.post("/admin/auth/user/", {"action": "deactivate", "_selected_action": [boss.pk]})
    browser.post(f"/admin/auth/user/{boss.pk}/delete/", {"post": "yes"})
    boss.refresh_from_db()
    assert boss.is_active and boss.is_superuser


def test_deactivated_users_are_audited(browser: Client):
    create_users(range(3))
    selected = list(get_user_model().objects.filter(username__startswith="a").values_list("pk", flat=True))
    browser.post("/admin/auth/user/", {"action": "deactivate", "_selected_action": selected})
    assert get_user_model().objects.filter(is_active=True).count() == 1
    assert AuditEntry.objects.filter(object_type="user", after__contains='"is_active": false').count() == 3


@pytest.mark.slow
def test_password_change_by_admin_is_audited_without_the_password(browser: Client):
    mei = get_user_model().objects.create_user("mei")
    password = "something of some length"
    form = {"password1": password, "password2": password, "usable_password": "true"}
    assert browser.post(f"/admin/auth/user/{mei.pk}/password/", form).status_code == 302
    entry = AuditEntry.objects.filter(object_id="mei").latest("pk")
    assert entry.actor == "user:boss" and entry.became == {"password": "(hidden)"}


# --- read-only pages --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["series", "exportjob", "auditentry", "damagedblock"])
def test_read_only_models_cannot_be_changed(browser: Client, name: str):
    model = next(model for label, model in REGISTERED.items() if label.lower() == f"metrics.{name}")
    CREATE_ROWS[model._meta.label](range(1))
    row: Any = model._base_manager.order_by("pk").first()
    values = model._base_manager.filter(pk=row.pk).values().get()
    assert browser.get(f"/admin/metrics/{name}/add/").status_code == 403
    assert browser.post(f"/admin/metrics/{name}/{row.pk}/change/", {"points": 7, "actor": "me"}).status_code == 403
    assert model._base_manager.filter(pk=row.pk).values().get() == values


def test_selected_exports_are_cancelled(browser: Client):
    create_exports(range(3))
    selected = list(ExportJob.objects.values_list("pk", flat=True))
    ExportJob.objects.filter(pk=selected[0]).update(status="done")
    form = {"action": "cancel", "_selected_action": selected}
    assert "2 exports were cancelled" in browser.post("/admin/metrics/exportjob/", form, follow=True).content.decode()
    assert sorted(ExportJob.objects.values_list("status", flat=True)) == ["cancelled", "cancelled", "done"]
    assert AuditEntry.objects.filter(action="cancelled", object_type="export job", actor="user:boss").count() == 2


def test_audit_entry_shows_before_and_after(browser: Client):
    record("changed", ("device", "boiler"), {"name": "<b>old"}, {"name": "new", "expected_interval": None})
    entry = AuditEntry.objects.latest("pk")
    page = browser.get(f"/admin/metrics/auditentry/{entry.pk}/change/").content.decode()
    assert "<td>&lt;b&gt;old</td><td>new</td>" in page and "<td>null</td>" in page
    results = browser.get("/admin/metrics/auditentry/?q=boil").context["cl"].result_list
    assert [result.pk for result in results] == [entry.pk]
    results = browser.get("/admin/metrics/auditentry/?object_type=device").context["cl"].result_list
    assert {result.object_id for result in results} == {"boiler"}


@pytest.mark.slow
def test_journal_is_paged_by_time_for_compressed_and_plain_lines(browser: Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("metrics.storage.write.journal.PACK_LINES", 20)
    monkeypatch.setattr("metrics.admin.storage.PAGE_LINES", 25)
    with connect() as storage:
        for number in range(45):
            store_points([(1, TODAY + number, 1.0, b"")])
        pack_journal(storage, 0, after=0)
    first = browser.get("/admin/journal/").context
    assert [line["seq"] for line in first["lines"]] == list(range(45, 20, -1))
    second = browser.get("/admin/journal/", {"before": first["earlier"]}).context
    assert [line["seq"] for line in second["lines"]] == list(range(20, 0, -1)) and second["earlier"] is None
    hour_ago = (timezone.now() - timedelta(hours=1)).isoformat()
    assert browser.get("/admin/journal/", {"before": hour_ago}).context["lines"] == []
    for invalid in ("yesterday", "2026-02-31T00:00:00Z"):
        page = browser.get("/admin/journal/", {"before": invalid})
        assert len(page.context["lines"]) == 25 and "Enter a time such as" in page.content.decode()
