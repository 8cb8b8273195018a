"""Nothing that identifies a device, rule, group, tag or value is in a public byte: answers, messages, files."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from alerts.models import Alert, Rule
from dashboard.status_page import answers, deliveries, incidents, lifecycle, messages, static_file
from dashboard.status_page.history import record_gaps, refresh_history
from dashboard.status_page.models import IncidentKind, StatusDelivery, StatusPage, StatusSubscriber
from dashboard.status_page.snapshot import build_snapshot
from dashboard.status_page.statuspage_json import DOCUMENTS
from metrics.models import Device, DeviceGroup
from rest.caller import Caller
from tests.alerts.factories import create_rule
from tests.dashboard.status_page.factories import store_alert

CALLER = Caller.internal("user:hidden-author")
HOUR = timedelta(hours=1)
# Long enough not to be part of the page by chance; some with characters that HTML, JSON and XML escape.
secrets = st.text("qxzjvkw", min_size=8, max_size=12) | st.sampled_from(["ωψξζ-host-ωψ", "qx&zj<kw>vq", "qz\"xj'kv%w"])
values = st.floats(1e9, 1e12, allow_nan=False)


def forms_of(secret: str) -> Iterator[str]:
    """Return a text as it would look in HTML, JSON, a URL and plain text."""
    from urllib.parse import quote

    from django.utils.html import escape

    yield from {
        secret,
        escape(secret),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        quote(secret),
    }


def public_texts(page: StatusPage, component_id: str, incident_id: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Return every public answer of a page, the messages to its subscribers and its files."""
    answers.clear_cache()
    client = Client()
    paths = ["", "history/", f"incidents/{incident_id}/", "feed.atom", "feed.rss", "maintenance.ics", "badge.svg",
             "subscribe/", f"badge/{component_id}.svg", *(f"api/v2/{name}.json" for name in DOCUMENTS)]  # fmt: skip
    for path in paths:
        answer = client.get(f"/status/{page.slug}/{path}")
        assert answer.status_code == 200, path
        yield path, answer.text + str(answer.headers)
    waiting = list(StatusDelivery.objects.select_related("subscriber__page", "update__incident__page"))
    assert waiting
    for message in messages.build_messages(waiting):
        assert isinstance(message, messages.Message)
        yield "mail", messages.build_mail(message).message().as_string() + message.text + message.subject
        yield "webhook", json.dumps(message.payload)
    static_file.write_files([build_snapshot(page, timezone.now())])
    for path in folder.iterdir():
        yield path.name, path.read_text()


@pytest.mark.slow
@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # shrinking would take minutes
)
@given(names=st.lists(secrets, min_size=6, max_size=6, unique=True), value=values)
def test_public_bytes_name_no_device_rule_group_tag_or_value(
    names: list[str], value: float, site: None, settings: Any, tmp_path: Path
) -> None:
    settings.SITE_URL, settings.STATUS_DIR = "https://monitor.example.com", tmp_path
    device_id, device_name, group, rule_name, tag, tag_value = names
    for model in (Alert, StatusPage, Device, DeviceGroup, Rule):
        model.objects.all().delete()
    rule = create_rule(name=rule_name, description=rule_name, level="critical", metric_name=tag, device_groups=[group])
    now = timezone.now()
    alert = store_alert(rule, device_id, now - HOUR, group=group, value=value, worst_value=value, owner=device_name)
    Device.objects.update(name=device_name, location=device_name, tags={tag: tag_value}, metadata={tag: tag_value})
    page = lifecycle.create_page({"title": "Public", "slug": "public", "published": True}, CALLER)
    parent = lifecycle.create_component(page, {"name": "All"}, CALLER)
    leaves = [
        lifecycle.create_component(page, {"name": name, "parent": parent, **sources}, CALLER)
        for name, sources in {
            "By group": {"device_groups": [group], "mode": "share"},
            "By rule": {"rule_ids": [rule.rule_id]},
            "By tag": {"tags": {tag: tag_value}},
        }.items()
    ]
    StatusSubscriber.objects.create(page=page, kind="email", address="anna@example.com", confirmed_at=now)
    StatusSubscriber.objects.create(page=page, kind="webhook", address="https://example.com/hook", confirmed_at=now)
    fields = {"title": "Outage", "text": "We are on it.", "components": leaves}
    incident = incidents.create_incident(page, IncidentKind.INCIDENT, fields, CALLER)
    planned = {"title": "Work", "components": leaves, "starts_at": now + HOUR, "ends_at": now + 2 * HOUR}
    incidents.create_incident(page, IncidentKind.MAINTENANCE, planned, CALLER)
    record_gaps(page, now)
    refresh_history(page, now)
    private = [*names, rule.rule_id, alert.alert_id, "hidden-author", f"{value:.0f}", "monitor.example.com/devices"]
    for name, text in public_texts(page, leaves[0].component_id, incident.incident_id, tmp_path):
        assert "major_outage" in text or name != "api/v2/summary.json"
        for secret in private:
            for form in forms_of(secret):
                assert form not in text, (name, secret)


def test_test_finds_names_that_are_public(site: None) -> None:
    """Show that the names would be found: a component that an operator names like a device is public."""
    page = lifecycle.create_page({"title": "Public", "slug": "public", "published": True}, CALLER)
    lifecycle.create_component(page, {"name": "device_001"}, CALLER)
    assert "device_001" in Client().get("/status/public/").text


def test_no_delivery_is_stored_for_unpublished_page(site: None) -> None:
    page = lifecycle.create_page({"title": "Public", "slug": "public"}, CALLER)
    StatusSubscriber.objects.create(page=page, kind="email", address="a@example.com", confirmed_at=timezone.now())
    incidents.create_incident(page, IncidentKind.INCIDENT, {"title": "Outage"}, CALLER)
    assert not StatusDelivery.objects.exists()
    assert deliveries.send_due() == 0
