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
    form = {"name": "boiler", "scope": "ingest", "device": device.pk}
    page = browser.post("/admin/ingest/apikey/add/", form, follow=True).content.decode()
    key = re.search(r"tk_[\w-]{32}", page)[0]
    stored = ApiKey.objects.get()
    assert bytes(stored.digest) == digest_of(key) and stored.device == device
    assert key not in browser.get(f"/admin/ingest/apikey/{stored.pk}/change/").content.decode()


def test_revoking_keys_increases_the_revision(browser: Client):
    key, _ = ApiKey.issue("one", "read")
    old_revision = Revision.objects.get().number
    browser.post("/admin/ingest/apikey/", {"action": "revoke", "_selected_action": [key.pk]})
    key.refresh_from_db()
    assert key.revoked_at is not None and Revision.objects.get().number > old_revision


def test_definition_records_its_creator_and_deletion_increases_the_revision(browser: Client):
    form = {"name": "level", "data_type": "numeric", "metric_type": "gauge", "retention_days": 30}
    form |= {"rollup_5m_days": 30, "rollup_1h_days": 60, "aggregation_interval": 60, "tags": "[]", "metadata": "{}"}
    browser.post("/admin/metrics/metricdefinition/add/", form)
    definition = MetricDefinition.objects.get()
    assert definition.created_by == "boss"
    old_revision = Revision.objects.get().number
    form = {"action": "delete_selected", "_selected_action": [definition.pk], "post": "yes"}
    browser.post("/admin/metrics/metricdefinition/", form)
    assert not MetricDefinition.objects.exists() and Revision.objects.get().number > old_revision


@pytest.mark.parametrize("path", ["ingest/apikey", "metrics/device", "metrics/metricdefinition"])
def test_admin_lists_can_be_searched_and_opened(browser: Client, path: str):
    Device.objects.create(device_id="boiler")
    assert browser.get(f"/admin/{path}/?q=boi").status_code == 200
    assert browser.get(f"/admin/{path}/add/").status_code == 200


def test_rotated_keys_are_shown_once(browser: Client):
    group = DeviceGroup.objects.create(name="site a")
    valid, _ = ApiKey.issue("gateway", "ingest", group=group)
    revoked, _ = ApiKey.issue("old", "ingest", revoked_at=timezone.now())
    form = {"action": "rotate", "_selected_action": [valid.pk, revoked.pk]}
    page = browser.post("/admin/ingest/apikey/", form, follow=True).content.decode()
    [text] = re.findall(r"tk_[\w-]{32}", page)
    rotated = ApiKey.objects.get(digest=digest_of(text))
    assert (rotated.group, rotated.rotated_from, rotated.scope) == (group, valid, "ingest")
    valid.refresh_from_db()
    assert timedelta(hours=23) < valid.expires_at - timezone.now() <= timedelta(days=1)
    assert "an expired or revoked key cannot be rotated" in page
    assert not ApiKey.objects.filter(rotated_from=revoked).exists()


def test_key_can_be_bound_to_a_group_but_not_also_to_a_device(browser: Client):
    group, device = DeviceGroup.objects.create(name="site a"), Device.objects.create(device_id="boiler")
    form = {"name": "gateway", "scope": "ingest", "group": group.pk}
    page = browser.post("/admin/ingest/apikey/add/", form | {"device": device.pk}).content.decode()
    assert "A key is bound to a device or to a group, not to both." in page
    browser.post("/admin/ingest/apikey/add/", form)
    key = ApiKey.objects.get()
    assert key.group == group
    ApiKey.objects.update(last_used_at=timezone.now())
    assert "site a" in browser.get(f"/admin/ingest/apikey/{key.pk}/change/").content.decode()
