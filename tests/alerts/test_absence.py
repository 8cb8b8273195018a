"""No-data alerts: devices and metrics without points within their expected interval."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from alerts import alert_actions
from alerts.evaluation.evaluator import Evaluator
from alerts.models import Alert, Resolution, Rule
from metrics.models import Device
from metrics.storage.connection import dedicated_connection
from tests.alerts.conftest import run, send
from tests.conftest import ApiClient

RuleFactory = Callable[..., Rule]
ABSENCE = {"name": "Silent", "kind": "absence", "metric_name": "*", "threshold_value": None}


def create_expected_device(device_id: str, seconds: int | None = 10, age: float = 0.0) -> Device:
    """Create a device with an expected interval, `age` seconds ago."""
    created_at = datetime.now(UTC) - timedelta(seconds=age)
    device, _ = Device.objects.update_or_create(
        device_id=device_id, defaults={"expected_interval": seconds, "created_at": created_at}
    )
    return device


def list_alerts() -> list[tuple[str, str]]:
    """Return device and status of each alert."""
    return list(Alert.objects.order_by("device_name", "pk").values_list("device_name", "status"))


def test_device_without_data_opens_an_alert_with_its_last_seen_time(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    create_expected_device("boiler"), create_expected_device("pump")
    create_cpu_rule(**ABSENCE)
    send(gateway, 1.0, device="boiler", ago=13)
    send(gateway, 1.0, device="pump", ago=5)
    run(evaluator)
    alert = Alert.objects.get()
    assert (alert.device_name, alert.status, alert.metric_name, alert.value) == ("boiler", "active", "*", None)
    assert alert.message.startswith("boiler: no data since ")
    assert alert.message.endswith("expected every 10 s")
    last_seen = datetime.fromisoformat(alert.evidence["last_heard"])
    assert (alert.triggered_at - last_seen).total_seconds() == pytest.approx(12)


def test_new_data_resolves_the_absence_alert(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    create_expected_device("boiler")
    create_cpu_rule(**ABSENCE)
    send(gateway, 1.0, device="boiler", ago=20)
    run(evaluator)
    send(gateway, 1.0, device="boiler")
    run(evaluator)
    assert list_alerts() == [("boiler", "resolved")]
    assert Alert.objects.get().resolution == Resolution.RECOVERED


def test_device_without_any_data_opens_an_alert(site: None, create_cpu_rule: RuleFactory, evaluator: Evaluator) -> None:
    create_expected_device("boiler", age=60)
    create_expected_device("new", seconds=3600)
    create_expected_device("whenever", seconds=None, age=600)
    rule = create_cpu_rule(**ABSENCE)
    Rule.objects.filter(pk=rule.pk).update(updated_at=datetime.now(UTC) - timedelta(seconds=60))
    run(evaluator)
    assert Alert.objects.get().message == "boiler has never sent any data, expected every 10 s"


def test_missing_metric_opens_an_alert_while_other_metrics_arrive(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    create_cpu_rule(
        **ABSENCE | {"metric_name": "pressure", "parameters": {"expected_interval": 10}, "device_ids": ["boiler"]}
    )
    send(gateway, 1.0, metric="pressure", device="boiler", ago=30)
    send(gateway, 1.0, metric="cpu", device="boiler")
    send(gateway, 1.0, metric="pressure", device="pump", ago=30)
    run(evaluator)
    assert list_alerts() == [("boiler", "active")]
    assert "no data of pressure since" in Alert.objects.get().message


def test_absence_opens_one_alert_also_after_a_restart(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    create_expected_device("boiler")
    create_cpu_rule(**ABSENCE)
    send(gateway, 1.0, device="boiler", ago=20)
    run(evaluator)
    run(evaluator)
    with dedicated_connection() as connection:
        run(Evaluator(connection))
    assert list_alerts() == [("boiler", "active")]


def test_resolved_absence_alert_opens_again_only_for_a_new_absence(
    gateway: ApiClient, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    create_expected_device("boiler")
    create_cpu_rule(**ABSENCE)
    send(gateway, 1.0, device="boiler", ago=60)
    run(evaluator)
    alert_actions.resolve(Alert.objects.all(), Resolution.PERSON, "user:ana")
    run(evaluator)
    with dedicated_connection() as connection:
        run(Evaluator(connection))
    assert list_alerts() == [("boiler", "resolved")]
    send(gateway, 1.0, device="boiler", ago=20)
    run(evaluator)
    assert list_alerts() == [("boiler", "resolved"), ("boiler", "active")]


@pytest.mark.slow
def test_5000_absent_devices_open_alerts_in_one_step(
    site: None, create_cpu_rule: RuleFactory, evaluator: Evaluator
) -> None:
    created_at = datetime.now(UTC) - timedelta(seconds=60)
    Device.objects.bulk_create(
        Device(device_id=f"d{number}", expected_interval=10, created_at=created_at) for number in range(5000)
    )
    rule = create_cpu_rule(**ABSENCE)
    Rule.objects.filter(pk=rule.pk).update(updated_at=created_at)
    started = time.monotonic()
    run(evaluator)
    assert Alert.objects.count() == 5000
    assert time.monotonic() - started < 30
