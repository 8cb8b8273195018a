"""Events of changes by the admin site, of large imports and of batches with unusual texts."""

from typing import Any

import pytest
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.test import Client

from metrics.devices.csv_import_export import import_devices
from metrics.devices.csv_table import read_table
from metrics.events.definitions import DeviceCreated
from metrics.events.outbox import record_events
from metrics.models import Device, DeviceGroup, Event, MetricDefinition
from rest.caller import Caller
from tests.metrics.events.recorded import forget_events, recorded_events


@pytest.fixture
def browser(site: None) -> Client:
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("admin"))
    return client


def _act(browser: Client, model: str, action: str, rows: Any, **more: Any) -> None:
    data = {"action": action, ACTION_CHECKBOX_NAME: [str(row.pk) for row in rows]} | more
    assert browser.post(f"/admin/metrics/{model}/", data).status_code in (200, 302)


def test_definitions_deleted_by_an_admin_action_have_one_event_each(browser: Client) -> None:
    rows = [MetricDefinition.objects.create(name=name, data_type="numeric") for name in ("load", "power")]
    forget_events()
    _act(browser, "metricdefinition", "delete_selected", rows, post="yes")
    assert not MetricDefinition.objects.exists()
    assert sorted(event[:2] for event in recorded_events()) == [
        ("metric.deleted", "metric/load"),
        ("metric.deleted", "metric/power"),
    ]


@pytest.mark.slow
def test_devices_deleted_by_an_admin_action_have_one_event_each(browser: Client) -> None:
    rows = [Device.objects.create(device_id=name) for name in ("boiler", "pump")]
    forget_events()
    _act(browser, "device", "delete_selected", rows, post="yes")
    assert not Device.objects.exists()
    assert sorted(event[:2] for event in recorded_events("device.")) == [
        ("device.deleted", "device/boiler"),
        ("device.deleted", "device/pump"),
    ]


@pytest.mark.slow
def test_import_of_ten_thousand_devices_has_as_many_events_in_few_inserts(site: None) -> None:
    DeviceGroup.objects.create(name="site a")
    lines = [f"d{number},Device {number},site a" for number in range(10_000)]
    table = read_table("\n".join(["device_id,name,groups", *lines]).encode())
    inserts = 0

    def count(execute: Any, sql: str, *args: Any) -> Any:
        nonlocal inserts
        inserts += "INSERT INTO metrics_event" in sql
        return execute(sql, *args)

    with connection.execute_wrapper(count):
        import_devices(table, Caller.internal("task:tests"))
    assert Event.objects.filter(type="device.created").count() == Event.objects.count() == 10_000
    assert inserts == 5


def test_events_keep_texts_and_their_order(site: None) -> None:
    names = ['quote " and \\', "{}", "line\nbreak", "ünï ☃ \U0001f600", "null", "x" * 200]
    with transaction.atomic():
        record_events(DeviceCreated(device_id=name) for name in names)
    rows = Event.objects.order_by("id")
    assert [event.data["device_id"] for event in rows] == [event.device_id for event in rows] == names
    assert [str(event.event_id)[14] for event in rows] == ["7"] * len(names)
