"""The count of open alerts in the frame of each page, up to a maximum."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.db import connection
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from alerts.models import Alert, Level, Status
from dashboard.navigation import page_context
from dashboard.open_alert_counts import MAX_COUNT, BoundedCount, OpenAlertCounts
from metrics.models import Device, DeviceGroup
from rest.caller import caller_of
from tests.dashboard.factories import client_of


def create_open_alerts(number: int, device: Device | None = None, **fields: Any) -> None:
    """Create alerts without a rule, open unless `fields` says otherwise."""
    triggered_at = timezone.now() - timedelta(minutes=5)
    defaults = {
        "level": Level.WARNING,
        "message": "Too warm",
        "triggered_at": triggered_at,
        "last_breach_at": triggered_at,
    } | fields
    name = device.device_id if device else "gone"
    Alert.objects.bulk_create(
        Alert(device=device, device_name=name, metric_name=f"m{index}", **defaults) for index in range(number)
    )


@pytest.mark.parametrize(("number", "text"), [(0, "0"), (1, "1"), (999, "999"), (1000, "999+"), (54_321, "999+")])
def test_count_over_the_bound_is_written_with_plus(number: int, text: str):
    assert str(BoundedCount(number)) == text and bool(BoundedCount(number)) == (number > 0)


@pytest.mark.slow
def test_counting_stops_at_the_bound_of_each_status_and_level(admin_user: Any):
    create_open_alerts(MAX_COUNT + 100)
    create_open_alerts(3, level=Level.EMERGENCY)
    create_open_alerts(2, level=Level.CRITICAL, status=Status.ACKNOWLEDGED)
    create_open_alerts(4, level=Level.CRITICAL, status=Status.RESOLVED)
    create_open_alerts(5, shadow=True, level=Level.ERROR)
    counts = OpenAlertCounts.visible_to(caller_of(admin_user))
    assert counts.active == {"warning": MAX_COUNT, "emergency": 3} and counts.acknowledged == {"critical": 2}
    assert (str(counts.unacknowledged), str(counts.open), counts.worst) == ("999+", "999+", "emergency")
    levels = {count.level: (str(count.open), str(count.unacknowledged)) for count in counts.by_level}
    assert levels["warning"] == ("999+", "999+") and levels["critical"] == ("2", "0") and levels["info"] == ("0", "0")


@pytest.mark.slow
def test_frame_and_title_show_999_plus_alerts(client: Client):
    create_open_alerts(MAX_COUNT + 1)
    page = client.get("/devices/").content.decode()
    assert "<title>(999+) Devices" in page and page.count('<b>999+</b><span class="vh"> unacknowledged</span>') == 2
    assert "999+ open, 999+ unacknowledged" in client.get("/alerts/").content.decode()
    assert client.get("/alerts/updates/").json()["counts"] == "999+ open, 999+ unacknowledged"
    assert "999+ unacknowledged alerts" in client.get("/overview/alerts/").content.decode()
    assert "999+ unacknowledged alerts" in client.get("/").content.decode()


def test_frame_and_title_show_one_and_no_alert(client: Client):
    page = client.get("/devices/").content.decode()
    assert "<title>Devices" in page and "data-unacknowledged hidden" in page
    create_open_alerts(1)
    page = client.get("/devices/").content.decode()
    assert "<title>(1) Devices" in page and '<b>1</b><span class="vh"> unacknowledged' in page


def test_viewer_counts_only_visible_alerts(site: None):
    room = Device.objects.create(device_id="room-7")
    room.groups.add(DeviceGroup.objects.create(name="site a"))
    create_open_alerts(2, room)
    create_open_alerts(3)
    assert "<title>(2) Devices" in client_of("v").get("/devices/").content.decode()


def test_counts_take_one_query_and_none_for_anonymous_users(admin_user: Any):
    request = RequestFactory().get("/")
    request.user = get_user_model().objects.get(pk=admin_user.pk)
    caller_of(request.user)
    with CaptureQueriesContext(connection) as queries:
        assert not page_context(request)["open_alerts"].unacknowledged
    assert len(queries) == 1
    request.user = AnonymousUser()
    with CaptureQueriesContext(connection) as queries:
        assert not page_context(request)["open_alerts"].unacknowledged
    assert len(queries) == 0
