"""The rendered page of silences: the list, the form and the preview."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from alerts import silences
from alerts.models import Alert, Rule, Silence
from alerts.rules import lifecycle
from metrics.models import Device, DeviceGroup
from rest.caller import Caller
from tests.dashboard.factories import client_of, open_alert

MEI = Caller("user:mei", "admin")
FORM: dict[str, Any] = {
    "kind": "silence", "device_ids": "room-7\r\n", "lasting": "3600", "reason": "Defrosting",
}  # fmt: skip


@pytest.fixture
def rule(site: None) -> Rule:
    return lifecycle.create({"name": "Too warm", "metric_name": "temperature", "threshold_value": 2.0}, "user:mei")


@pytest.fixture
def visible_alert(rule: Rule) -> Alert:
    """Open an alert of a device in the group `site a`."""
    alert = open_alert(rule, "room-7", "Room 7 is too warm")
    alert.device.groups.add(DeviceGroup.objects.get_or_create(name="site a")[0])  # type: ignore[union-attr]
    return alert


def create_silence(**fields: Any) -> Silence:
    defaults = {"device_ids": ["room-7"], "reason": "Because", "ends_at": timezone.now() + timedelta(hours=2)}
    return silences.create_silence(defaults | fields, MEI)


def test_empty_list_explains_silences(client: Client):
    assert "Before work on a device" in client.get("/silences/").content.decode()


def test_silences_are_listed_by_state(client: Client):
    now = timezone.now()
    create_silence(reason="at this time")
    create_silence(reason="tomorrow", starts_at=now + timedelta(days=1), ends_at=now + timedelta(days=2))
    silences.end_silence(create_silence(reason="long ago", kind="maintenance"), MEI)
    page = client.get("/silences/").content.decode()
    positions = [
        page.index(text) for text in (">Active<", "at this time", ">Scheduled<", "tomorrow", ">Expired<", "long ago")
    ]
    assert positions == sorted(positions) and ">maintenance<" in page


def test_silence_is_created_for_a_duration(client: Client):
    page = client.post("/silences/", FORM, follow=True).content.decode()
    silence = Silence.objects.get()
    assert "Silenced until" in page and "Defrosting" in page
    assert (silence.device_ids, silence.reason, silence.created_by) == (["room-7"], "Defrosting", "user:mei")
    assert silence.ends_at - silence.starts_at == timedelta(hours=1)


def test_times_are_in_the_users_time_zone(client: Client):
    client.cookies["telemetry_time_zone"] = "Europe/Oslo"
    now = timezone.now()
    start, end = (now + timedelta(days=day) for day in (2, 3))
    form = FORM | {"lasting": "0", "starts_at": f"{start:%Y-%m-%d}T10:00", "ends_at": f"{end:%Y-%m-%d}T12:00"}
    weekly = {"days": [*"0123456"], "from": "22:00", "to": "06:00"}
    client.post("/silences/", form | weekly)
    silence = Silence.objects.get()
    assert f"{silence.starts_at:%H:%M}" in ("09:00", "08:00")  # Oslo is UTC+1, in summer UTC+2
    assert silence.weekly == {"days": [*range(7)], "from": "22:00", "to": "06:00", "timezone": "Europe/Oslo"}


@pytest.mark.parametrize(
    ("invalid_fields", "error"),
    [
        ({"reason": ""}, "Enter a reason."),
        ({"device_ids": ""}, "Choose at least one device, group, metric, rule or level."),
        ({"lasting": "0"}, "Choose a duration or an end time."),
        ({"lasting": "0", "ends_at": "tomorrow"}, "Enter a valid date/time."),
        ({"lasting": "0", "ends_at": "2020-01-01T10:00"}, "must be after starts_at"),
        ({"days": ["0"], "from": "25:00", "to": "06:00"}, "from: must be a time from 00:00"),
        ({"levels": ["none"]}, "must be a list of info"),
        ({"kind": "none"}, "must be silence or maintenance"),
    ],
)
def test_invalid_form_shows_errors_and_keeps_its_texts(client: Client, invalid_fields: dict[str, Any], error: str):
    response = client.post("/silences/", FORM | invalid_fields)
    page = response.content.decode()
    assert response.status_code == 422 and error in page and not Silence.objects.exists()
    assert invalid_fields.get("reason") == "" or 'value="Defrosting"' in page


def test_preview_counts_alerts_and_creates_no_silence(client: Client, rule: Rule, visible_alert: Alert):
    open_alert(rule, "elsewhere", "Elsewhere is too warm")
    page = client.post("/silences/", FORM | {"do": "preview"}).content.decode()
    assert "Would have silenced 1 alert of the last 7 days" in page and visible_alert.message in page
    assert "Elsewhere" not in page and not Silence.objects.exists()


def test_silence_is_ended(client: Client):
    silence = create_silence()
    assert "Silence ended." in client.post(f"/silences/{silence.silence_id}/end/", follow=True).content.decode()
    assert not silences.list_active(timezone.now())


class TestFromAnAlert:
    def test_rule_is_silenced_on_the_device_for_an_hour(self, client: Client, rule: Rule, visible_alert: Alert):
        page = client.post(
            f"/alerts/{visible_alert.alert_id}/silence/", {"lasting": "hour"}, follow=True
        ).content.decode()
        silence = Silence.objects.get()
        assert "Silenced for 1 h. You will still be notified when it resolves." in page and (
            silence.device_ids,
            silence.rule_ids,
        ) == (["room-7"], [rule.rule_id])

    def test_alert_is_silenced_until_resolved(self, client: Client, visible_alert: Alert):
        client.post(f"/alerts/{visible_alert.alert_id}/silence/", {"lasting": "resolved"})
        silence = Silence.objects.get()
        assert (silence.alert_id, silence.device_ids) == (visible_alert.alert_id, [])
        page = client.get("/silences/").content.decode()
        assert "until the alert is resolved" in page and "Alert Room 7 is too warm" in page


class TestPermissions:
    @pytest.mark.slow
    def test_viewers_read_and_operators_silence_visible_devices(self, visible_alert: Alert):
        viewer, operator = client_of("v"), client_of("o", operates=True)
        Device.objects.create(device_id="elsewhere")
        hidden, visible = create_silence(device_ids=["elsewhere"], reason="theirs"), create_silence(reason="ours")
        for client in (viewer, operator):
            page = client.get("/silences/").content.decode()
            assert "ours" in page and "theirs" not in page
        assert "New silence" not in viewer.get("/silences/").content.decode()
        for path in (
            "/silences/",
            f"/silences/{visible.silence_id}/end/",
            f"/alerts/{visible_alert.alert_id}/silence/",
        ):
            assert viewer.post(path, FORM).status_code == 403
        assert operator.post(f"/silences/{hidden.silence_id}/end/").status_code == 404
        error = operator.post("/silences/", FORM | {"device_ids": "elsewhere"}).content.decode()
        assert "must name devices or device groups that you may see" in error
        assert operator.post("/silences/", FORM).status_code == 302
        assert operator.post(f"/silences/{visible.silence_id}/end/").status_code == 302

    def test_anonymous_visitor_is_redirected_to_login(self, site: None):
        assert Client().get("/silences/")["Location"].startswith("/login/")
