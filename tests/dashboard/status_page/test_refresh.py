"""What a worker does for status pages: gaps without data, files for a proxy, and old rows."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from dashboard.status_page import refresh, static_file
from dashboard.status_page.history import record_gaps
from dashboard.status_page.models import ComponentGap, StatusPage, StatusSubscriber
from dashboard.status_page.snapshot import PublicState, build_snapshot
from metrics.models import Series, SilentDevice
from tests.alerts.factories import create_device, create_rule
from tests.dashboard.status_page.factories import create_component, create_page

HOUR = timedelta(hours=1)


@pytest.fixture
def page(site: None, settings: Any, tmp_path: Path) -> StatusPage:
    settings.STATUS_DIR = tmp_path
    return create_page()


def test_time_in_which_all_devices_are_silent_is_unknown(page: StatusPage) -> None:
    create_rule()
    leaf = create_component(page, "Portal", device_groups=["site a"])
    devices = [create_device(f"device_{number}", "site a") for number in range(2)]
    for device in devices:
        Series.objects.create(device=device, metric_name="temperature", kind=0)
    now = timezone.now()
    SilentDevice.objects.create(device_id=devices[0].pk, last_seen=now - 2 * HOUR)
    assert record_gaps(page, now) == 0  # the other device sends
    SilentDevice.objects.create(device_id=devices[1].pk, last_seen=now - HOUR)
    assert record_gaps(page, now) == 1 and record_gaps(page, now) == 0
    gap = ComponentGap.objects.get(component=leaf)
    assert (gap.began_at, gap.ended_at) == (now - HOUR, None)
    refresh.refresh(now)
    assert build_snapshot(page, now).components[0].state == PublicState.UNKNOWN
    SilentDevice.objects.filter(device_id=devices[0].pk).delete()
    assert record_gaps(page, now + HOUR) == 1
    gap.refresh_from_db()
    assert gap.ended_at == now + HOUR


def test_files_are_written_when_the_page_changes_and_deleted_with_it(page: StatusPage, tmp_path: Path) -> None:
    now = timezone.now()
    assert static_file.write_files([build_snapshot(page, now)]) == 2
    text = (tmp_path / "main.html").read_text()
    assert text == (tmp_path / "index.html").read_text()
    assert "Tarnholm status" in text and "<style>" in text and '<link rel="stylesheet"' not in text
    assert static_file.write_files([build_snapshot(page, now + timedelta(seconds=10))]) == 0
    assert static_file.write_files([build_snapshot(page, now + timedelta(seconds=90))]) == 2  # for its time
    create_component(page, "Portal")
    assert static_file.write_files([build_snapshot(page, now + timedelta(seconds=95))]) == 2
    assert "Portal" in (tmp_path / "main.html").read_text()
    static_file.write_files([])
    assert list(tmp_path.iterdir()) == []


def test_unconfirmed_subscribers_are_deleted_after_two_days(page: StatusPage) -> None:
    old = timezone.now() - timedelta(days=3)
    StatusSubscriber.objects.create(page=page, kind="email", address="a@example.com", created_at=old)
    StatusSubscriber.objects.create(page=page, kind="email", address="b@example.com", created_at=old, confirmed_at=old)
    StatusSubscriber.objects.create(page=page, kind="email", address="c@example.com")
    assert refresh.delete_old() == 1
    assert sorted(StatusSubscriber.objects.values_list("address", flat=True)) == ["b@example.com", "c@example.com"]
