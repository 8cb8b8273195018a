"""Admin pages: every list opens, searches, and needs no more statements for many rows."""

import re
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

from metrics.audit.model_changes import watched_models
from metrics.audit.record import record
from metrics.devices import group_membership
from metrics.models import AuditEntry, DeviceGroup, ExportJob, MetricDefinition
from metrics.storage.connection import connect
from metrics.storage.write.journal import pack_journal
from rest.caller import OPERATORS, Caller, Scope
from tests.metrics.admin_rows import (
    CREATE_ROWS,
    create_definitions,
    create_devices,
    create_exports,
    create_groups,
    create_series,
    create_users,
)
from tests.metrics.test_storage import TODAY, store_points

REGISTERED = {model._meta.label: model for model in admin.site._registry}


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
