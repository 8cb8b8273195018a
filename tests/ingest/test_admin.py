"""Keys and definitions in the Django admin."""

import re

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from ingest.models import ApiKey, digest_of
from metrics.models import Device, MetricDefinition, Revision


@pytest.fixture
def browser(site: None) -> Client:
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("boss"))
    return client


def test_a_key_is_shown_once_when_it_is_made_and_kept_as_a_hash(browser: Client):
    device = Device.objects.create(device_id="boiler")
    sent = {"name": "boiler", "scope": "ingest", "device": device.pk}
    page = browser.post("/admin/ingest/apikey/add/", sent, follow=True).content.decode()
    key = re.search(r"tk_[\w-]{32}", page)[0]
    made = ApiKey.objects.get()
    assert bytes(made.digest) == digest_of(key) and made.device == device
    assert key not in browser.get(f"/admin/ingest/apikey/{made.pk}/change/").content.decode()


def test_revoking_keys_tells_every_process(browser: Client):
    made, _ = ApiKey.issue("one", "read")
    before = Revision.objects.get().number
    browser.post("/admin/ingest/apikey/", {"action": "revoke", "_selected_action": [made.pk]})
    made.refresh_from_db()
    assert made.revoked_at is not None and Revision.objects.get().number > before


def test_a_definition_says_who_made_it_and_deleting_it_tells_every_process(browser: Client):
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
def test_the_lists_search_and_open(browser: Client, path: str):
    Device.objects.create(device_id="boiler")
    assert browser.get(f"/admin/{path}/?q=boi").status_code == 200
    assert browser.get(f"/admin/{path}/add/").status_code == 200
