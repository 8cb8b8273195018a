"""Device groups in the admin, with many devices."""

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from metrics.models import Device, DeviceGroup
from tests.metrics.test_groups import create_group


@pytest.fixture
def browser(site) -> Client:
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("boss"))
    return client


@pytest.mark.slow
def test_selected_devices_are_added_to_group_and_filterable_by_it(browser):
    Device.objects.bulk_create(Device(device_id=f"d{number}") for number in range(150))
    group = create_group("east", ["d3"])
    form = {"action": "add_to_group", "select_across": "1", "group": group.pk, "_selected_action": ["1"]}
    page = browser.post("/admin/metrics/device/?q=d1", form, follow=True).content.decode()
    assert "61 devices were added to east" in page
    assert group.devices.count() == 62
    response = browser.post("/admin/metrics/device/?q=d1", form, follow=True)
    assert response.status_code == 200 and group.devices.count() == 62
    listed = browser.get(f"/admin/metrics/device/?groups__id__exact={group.pk}").context["cl"]
    assert listed.result_count == 62


def test_add_action_without_group_changes_nothing(browser):
    device = Device.objects.create(device_id="d")
    form = {"action": "add_to_group", "_selected_action": [device.pk]}
    assert "Choose a group" in browser.post("/admin/metrics/device/", form, follow=True).content.decode()


@pytest.mark.slow
def test_group_list_statements_do_not_grow_with_groups(browser, django_assert_max_num_queries):
    Device.objects.bulk_create(Device(device_id=f"d{number}") for number in range(30))
    for number in range(20):
        create_group(f"g{number:02}", [f"d{device_number}" for device_number in range(number)])
    with django_assert_max_num_queries(6):
        listed = browser.get("/admin/metrics/devicegroup/?q=g").context["cl"]
    assert [device_number.counted for device_number in listed.result_list] == list(range(20))


@pytest.mark.slow
def test_deleting_a_group_keeps_its_devices(browser, django_assert_max_num_queries):
    Device.objects.bulk_create(Device(device_id=f"d{number}") for number in range(300))
    group = create_group("east", [f"d{number}" for number in range(300)])
    empty = create_group("west", [])
    with django_assert_max_num_queries(6):
        page = browser.get(f"/admin/metrics/devicegroup/{group.pk}/delete/").content
    page_of_empty = browser.get(f"/admin/metrics/devicegroup/{empty.pk}/delete/").content
    assert b"d299" not in page and len(page) < len(page_of_empty) + 1000
    empty.delete()
    browser.post(f"/admin/metrics/devicegroup/{group.pk}/delete/", {"post": "yes"})
    assert not DeviceGroup.objects.exists() and Device.objects.count() == 300


@pytest.mark.slow
def test_device_form_changes_groups(browser):
    device = Device.objects.create(device_id="d")
    east = create_group("east", [])
    browser.post(f"/admin/metrics/device/{device.pk}/change/", {"name": "", "groups": [east.pk]})
    assert list(device.groups.all()) == [east]
    assert browser.get("/admin/metrics/devicegroup/add/").status_code == 200
