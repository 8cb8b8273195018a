"""Keys and definitions in the Django admin."""

import re
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.utils import timezone

from ingest.models import ApiKey, digest_of
from metrics.models import Device, DeviceGroup, MetricDefinition, Revision


@pytest.fixture
def browser(site: None) -> Client:
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("boss"))
    return client


def test_created_key_is_shown_once_and_stored_as_a_hash(browser: Client):
    device = Device.objects.create(device_id="boiler")
    sent = {"name": "boiler", "scope": "ingest", "device": device.pk}
    page = browser.post("/admin/ingest/apikey/add/", sent, follow=True).content.decode()
    key = re.search(r"tk_[\w-]{32}", page)[0]
    made = ApiKey.objects.get()
    assert bytes(made.digest) == digest_of(key) and made.device == device
    assert key not in browser.get(f"/admin/ingest/apikey/{made.pk}/change/").content.decode()


def test_revoking_keys_increases_the_revision(browser: Client):
    made, _ = ApiKey.issue("one", "read")
    before = Revision.objects.get().number
    browser.post("/admin/ingest/apikey/", {"action": "revoke", "_selected_action": [made.pk]})
    made.refresh_from_db()
    assert made.revoked_at is not None and Revision.objects.get().number > before


def test_definition_records_its_creator_and_deletion_increases_the_revision(browser: Client):
    sent = {"name": "level", "data_type": "numeric", "metric_type": "gauge", "retention_days": 30}
    sent |= {"rollup_5m_days": 30, "rollup_1h_days": 60, "aggregation_interval": 60, "tags": "[]", "metadata": "{}"}
    browser.post("/admin/metrics/metricdefinition/add/", sent)
    made = MetricDefinition.objects.get()
    assert made.created_by == "boss"
    before = Revision.objects.get().number
    sent = {"action": "delete_selected", "_selected_action": [made.pk], "post": "yes"}
    browser.post("/admin/metrics/metricdefinition/", sent)
    assert not MetricDefinition.objects.exists() and Revision.objects.get().number > before


@pytest.mark.parametrize("path", ["ingest/apikey", "metrics/device", "metrics/metricdefinition"])
def test_admin_lists_can_be_searched_and_opened(browser: Client, path: str):
    Device.objects.create(device_id="boiler")
    assert browser.get(f"/admin/{path}/?q=boi").status_code == 200
    assert browser.get(f"/admin/{path}/add/").status_code == 200


def test_rotated_keys_are_shown_once(browser: Client):
    group = DeviceGroup.objects.create(name="site a")
    good, _ = ApiKey.issue("gateway", "ingest", group=group)
    gone, _ = ApiKey.issue("old", "ingest", revoked_at=timezone.now())
    sent = {"action": "rotate", "_selected_action": [good.pk, gone.pk]}
    page = browser.post("/admin/ingest/apikey/", sent, follow=True).content.decode()
    [text] = re.findall(r"tk_[\w-]{32}", page)
    new = ApiKey.objects.get(digest=digest_of(text))
    assert (new.group, new.rotated_from, new.scope) == (group, good, "ingest")
    good.refresh_from_db()
    assert timedelta(hours=23) < good.expires_at - timezone.now() <= timedelta(days=1)
    assert "an expired or revoked key cannot be rotated" in page
    assert not ApiKey.objects.filter(rotated_from=gone).exists()


def test_key_can_be_bound_to_a_group_but_not_also_to_a_device(browser: Client):
    group, device = DeviceGroup.objects.create(name="site a"), Device.objects.create(device_id="boiler")
    sent = {"name": "gateway", "scope": "ingest", "group": group.pk}
    refused = browser.post("/admin/ingest/apikey/add/", sent | {"device": device.pk}).content.decode()
    assert "A key is bound to a device or to a group, not to both." in refused
    browser.post("/admin/ingest/apikey/add/", sent)
    made = ApiKey.objects.get()
    assert made.group == group
    ApiKey.objects.update(last_used_at=timezone.now())
    assert "site a" in browser.get(f"/admin/ingest/apikey/{made.pk}/change/").content.decode()
