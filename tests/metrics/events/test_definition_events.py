"""Events of devices, groups of devices and metric definitions, whichever way they are changed."""

from typing import Any

import pytest
from django.db import transaction

from metrics.devices import group_membership
from metrics.devices.csv_import_export import import_devices
from metrics.devices.csv_table import read_table
from metrics.devices.delete_device import delete_device
from metrics.models import Device, DeviceGroup, Event, MetricDefinition
from metrics.storage import series_registry
from rest.caller import Caller
from tests.conftest import ApiClient, point
from tests.metrics.events.recorded import forget_events, recorded_events

ADMIN = Caller.internal("task:tests")


@pytest.mark.slow
def test_device_created_changed_and_deleted_by_api_has_three_events(admin: ApiClient) -> None:
    assert admin.post("devices", {"device_id": "boiler", "name": "Boiler"}).status == 201
    assert admin.call("PATCH", "devices/boiler", {"location": "cellar"}).status == 200
    assert admin.call("DELETE", "devices/boiler").status in (202, 204)
    assert recorded_events("device.") == [
        ("device.created", "device/boiler", {"device_id": "boiler", "name": "Boiler"}),
        ("device.updated", "device/boiler", {"device_id": "boiler", "name": "Boiler", "changed": ["location"]}),
        ("device.deleted", "device/boiler", {"device_id": "boiler"}),
    ]
    assert set(Event.objects.values_list("device_id", "owner_id")) == {("boiler", None)}


def test_device_created_by_its_first_point_has_one_event(gateway: ApiClient) -> None:
    for _ in range(3):
        assert gateway.post("devices/pump/telemetry", point()).status in (200, 201, 202)
    assert recorded_events() == [("device.created", "device/pump", {"device_id": "pump", "name": ""})]


def test_device_that_another_process_created_first_has_no_second_event(gateway: ApiClient) -> None:
    registry = series_registry.current_registry()
    with series_registry.read_connection() as connection:
        registry._load_devices(connection, ["pump"])
        registry._devices.clear()
        registry_of_another_process = series_registry.SeriesRegistry()
        created = connection.execute(series_registry._CREATE_DEVICES, (["pump", "valve"],)).fetchall()
        registry_of_another_process._load_devices(connection, ["pump", "valve"])
    assert [(device_id, is_new) for device_id, _, is_new in sorted(created)] == [("pump", False), ("valve", True)]
    assert recorded_events() == [("device.created", "device/pump", {"device_id": "pump", "name": ""})]


def test_change_that_is_rolled_back_leaves_no_event(site: None) -> None:
    with pytest.raises(RuntimeError), transaction.atomic():
        Device.objects.create(device_id="boiler")
        MetricDefinition.objects.create(name="load", data_type="numeric")
        assert len(recorded_events()) == 2
        raise RuntimeError
    assert recorded_events() == []


def test_change_that_is_rolled_back_to_a_savepoint_leaves_no_event_and_others_remain(site: None) -> None:
    with transaction.atomic():
        Device.objects.create(device_id="kept")
        with pytest.raises(RuntimeError), transaction.atomic():
            Device.objects.create(device_id="discarded")
            raise RuntimeError
    assert [subject for _, subject, _ in recorded_events()] == ["device/kept"]


def test_devices_deleted_by_a_queryset_have_one_event_each(site: None) -> None:
    Device.objects.bulk_create(Device(device_id=f"d{number}") for number in range(3))
    Device.objects.all().delete()
    assert sorted(subject for _, subject, _ in recorded_events("device.deleted")) == [
        "device/d0", "device/d1", "device/d2",
    ]  # fmt: skip


def test_saving_a_device_without_a_change_has_no_event(site: None) -> None:
    device = Device.objects.create(device_id="boiler")
    forget_events()
    device.save()
    assert recorded_events() == []


def test_deleted_device_that_does_not_exist_has_no_event(site: None) -> None:
    Device.objects.create(device_id="boiler")
    delete_device("boiler", ADMIN)
    delete_device("boiler", ADMIN)
    assert [event[0] for event in recorded_events()] == ["device.created", "device.deleted"]


@pytest.mark.parametrize("change", ["by form", "by functions"])
def test_changed_membership_is_an_event_of_each_device_that_changed(site: None, change: str) -> None:
    group = DeviceGroup.objects.create(name="site a")
    old, new = (Device.objects.create(device_id=name) for name in ("old", "new"))
    group.devices.add(old)
    forget_events()
    if change == "by form":
        group.devices.set([old, new])
        new.groups.clear()
    else:
        assert group_membership.add_devices(group, [old.pk, new.pk]) == 1
        assert group_membership.remove_devices(group, [new.pk]) == 1
        assert group_membership.remove_devices(group, [new.pk]) == 0
    expected = ("device.updated", "device/new", {"device_id": "new", "name": "", "changed": ["groups"]})
    assert recorded_events() == [expected, expected]


def _csv(*lines: str) -> Any:
    return read_table("\n".join(lines).encode())


def test_csv_import_has_an_event_for_each_created_or_changed_device(site: None) -> None:
    Device.objects.create(device_id="same", name="Same")
    Device.objects.create(device_id="other", name="Old")
    forget_events()
    import_devices(_csv("device_id,name", "same,Same", "other,New", "third,Third"), ADMIN)
    assert recorded_events() == [
        ("device.updated", "device/other", {"device_id": "other", "name": "New", "changed": ["name"]}),
        ("device.created", "device/third", {"device_id": "third", "name": "Third"}),
    ]


def test_csv_dry_run_has_no_event(site: None) -> None:
    import_devices(_csv("device_id,name", "third,Third"), ADMIN, dry_run=True)
    assert recorded_events() == []


def test_metric_definition_has_events_with_its_type_and_unit(admin: ApiClient) -> None:
    body = {"name": "load", "data_type": "numeric", "unit": "%"}
    created = admin.post("metrics", body)
    assert created.status == 201
    definition = MetricDefinition.objects.get()
    definition.unit = "percent"
    definition.save()
    definition.delete()
    fields = {"name": "load", "metric_id": created.json["metric_id"], "data_type": "numeric", "unit": "%"}
    assert recorded_events() == [
        ("metric.defined", "metric/load", fields),
        ("metric.updated", "metric/load", fields | {"unit": "percent", "changed": ["unit"]}),
        ("metric.deleted", "metric/load", fields | {"unit": "percent"}),
    ]
