"""`manage.py demo`: a site with data, created once, and deleted completely."""

import io
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from alerts.models import Alert, Rule, RuleKind, Silence
from dashboard.demo import content, install
from dashboard.demo.incidents import Incidents
from dashboard.demo.points import follow
from metrics.models import AuditEntry, Device, DeviceGroup, MetricDefinition
from tests.conftest import ApiClient, point
from tests.metrics.stored_points import read_stored_values

NOW = datetime.now(UTC)
SHORT = timedelta(hours=2)


def demo(*arguments: str) -> str:
    output = io.StringIO()
    call_command("demo", *arguments, stdout=output)
    return output.getvalue()


@pytest.fixture
def short_history(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hours of history instead of a week."""
    monkeypatch.setattr("dashboard.demo.points.HISTORY", SHORT)


def count_points(admin: ApiClient) -> int:
    return sum(
        admin.get(f"devices/{device.device_id}/stats").json["data_points_count"] for device in content.FLEET.devices
    )


def state_of_site(admin: ApiClient) -> list[Any]:
    return [
        count_points(admin),
        AuditEntry.objects.count(),
        list(Device.objects.order_by("pk").values_list("device_id", "updated_at")),
        list(Rule.objects.order_by("pk").values_list("rule_id", "version")),
        list(Alert.objects.order_by("pk").values_list("alert_id", "status", "updated_at")),
    ]


@pytest.mark.slow
def test_demo_creates_a_site_with_data_once(admin: ApiClient) -> None:
    output = demo()
    assert "30 devices in 11 groups" in output
    assert Device.objects.filter(device_id__startswith="demo-").count() == 30
    assert DeviceGroup.objects.filter(name__startswith="Demo: ").count() == 11
    assert set(Rule.objects.values_list("kind", flat=True)) == set(RuleKind.values)
    assert not Rule.objects.exclude(suspended="").exists()
    assert Silence.objects.count() == 3
    statuses = Counter(Alert.objects.values_list("status", flat=True))
    assert min(statuses["active"], statuses["acknowledged"], statuses["resolved"]) >= 2
    open_rules = set(Alert.objects.exclude(status="resolved").values_list("rule__rule_id", flat=True))
    assert open_rules >= {"demo-cold-store-warm", "demo-vibration", "demo-motor-hot", "demo-silent", "demo-disk-full"}
    week = read_stored_values("demo-pump-001", "flow", NOW - timedelta(days=8), NOW + timedelta(hours=1))
    assert week.times[-1] - week.times[0] > 6.9 * 86_400e6
    before = state_of_site(admin)
    assert before[0] > 1_000_000
    assert demo() == "The demo data set exists; nothing was changed.\n"
    assert state_of_site(admin) == before


@pytest.mark.slow
def test_stopped_demo_is_continued_with_the_same_points(
    admin: ApiClient, short_history: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop() -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(install, "evaluate", stop)
        with pytest.raises(CommandError, match="stopped; run the same command again to continue"):
            demo()
    points = count_points(admin)
    assert not Alert.objects.exists()
    assert "30 devices in 11 groups" in demo()
    assert count_points(admin) == points
    assert Alert.objects.exists()


@pytest.mark.slow
def test_removed_demo_leaves_the_objects_of_others(admin: ApiClient, short_history: None) -> None:
    admin.post("devices/demo-own/telemetry", point("pressure", 2.5))
    admin.post("devices/boiler/telemetry", point("level", 2.5))
    demo()
    output = demo("--remove")
    assert output.startswith("30 devices, 10 rules and ")
    assert "definitions that other devices use are kept: pressure" in output
    assert list(Device.objects.order_by("device_id").values_list("device_id", flat=True)) == ["boiler", "demo-own"]
    for model in (DeviceGroup, Rule, Alert, Silence):
        assert not model.objects.exists()  # type: ignore[attr-defined]
    assert list(MetricDefinition.objects.values_list("name", flat=True)) == ["pressure"]
    assert demo("--remove") == "There is no demo data set; nothing was changed.\n"
    assert "30 devices in 11 groups" in demo()


@pytest.mark.slow
def test_devices_of_the_demo_go_on_sending(site: None, short_history: None) -> None:
    start = install.install(print, round(NOW.timestamp() * 1000) - 300_000).until
    times = iter([start / 1000 + 90.0, start / 1000 + 90.0, start / 1000 + 240.0])
    waits: list[float] = []
    sent = follow(start, Incidents.until(start), install.CALLER, lambda: next(times), waits.append)
    assert next(sent) == start + 90_000
    assert next(sent) == start + 240_000
    assert waits == [1.0]
    begin = datetime.fromtimestamp(start / 1000, UTC)
    stored = read_stored_values("demo-weather-station-004", "air_pressure", begin, begin + timedelta(minutes=5))
    assert len(stored.times) == 4
    install.save_progress(start + 240_000)
    assert install.install(print).sent_until == start + 240_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("metrics", {"name": "flow", "data_type": "boolean"}, "metric flow is defined as boolean; the demo needs num"),
        ("devices", {"device_id": "demo-server-010"}, "device demo-server-010 exists and is not of the demo"),
        ("groups", {"name": "Demo: pumps"}, "device group Demo: pumps exists and is not of the demo"),
    ],
)
def test_object_of_the_same_name_is_left_alone(admin: ApiClient, path: str, body: dict[str, str], message: str) -> None:
    assert admin.post(path, body).status == 201
    with pytest.raises(CommandError, match=f"nothing was changed: {message}"):
        demo()
    counts = [model.objects.count() for model in (MetricDefinition, Device, DeviceGroup, Rule)]  # type: ignore[attr-defined]
    assert sum(counts) == 1
