"""Devices and metrics that are not heard of are told by the clock, heard before or never."""

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

Make = Callable[..., Rule]
ABSENCE = {"name": "Silent", "kind": "absence", "metric_name": "*", "threshold_value": None}


def expect(device_id: str, seconds: int | None = 10, age: float = 0.0) -> Device:
    """A device from which something is expected every so many seconds, made so long ago."""
    created = datetime.now(UTC) - timedelta(seconds=age)
    device, _ = Device.objects.update_or_create(
        device_id=device_id, defaults={"expected_interval": seconds, "created_at": created}
    )
    return device


def silent() -> list[tuple[str, str]]:
    return list(Alert.objects.order_by("device_name", "pk").values_list("device_name", "status"))


def test_a_device_that_is_not_heard_in_time_is_told_with_since_when(
    gateway: ApiClient, create_cpu_rule: Make, evaluator: Evaluator
) -> None:
    expect("boiler"), expect("pump")
    create_cpu_rule(**ABSENCE)
    send(gateway, 1.0, device="boiler", ago=13)
    send(gateway, 1.0, device="pump", ago=5)
    run(evaluator)
    alert = Alert.objects.get()
    assert (alert.device_name, alert.status, alert.metric_name, alert.value) == ("boiler", "active", "*", None)
    assert alert.message.startswith("boiler: no data since ")
    assert alert.message.endswith("expected every 10 s")
    heard = datetime.fromisoformat(alert.evidence["last_heard"])
    assert (alert.triggered_at - heard).total_seconds() == pytest.approx(12)


def test_a_device_that_is_heard_again_is_well(gateway: ApiClient, create_cpu_rule: Make, evaluator: Evaluator) -> None:
    expect("boiler")
    create_cpu_rule(**ABSENCE)
    send(gateway, 1.0, device="boiler", ago=20)
    run(evaluator)
    send(gateway, 1.0, device="boiler")
    run(evaluator)
    assert silent() == [("boiler", "resolved")]
    assert Alert.objects.get().resolution == Resolution.RECOVERED


def test_a_device_that_was_never_heard_is_missed(site: None, create_cpu_rule: Make, evaluator: Evaluator) -> None:
    expect("boiler", age=60)
    expect("new", seconds=3600)
    expect("whenever", seconds=None, age=600)
    made = create_cpu_rule(**ABSENCE)
    Rule.objects.filter(pk=made.pk).update(updated_at=datetime.now(UTC) - timedelta(seconds=60))
    run(evaluator)
    assert Alert.objects.get().message == "boiler has never sent any data, expected every 10 s"


def test_one_metric_of_a_device_may_be_missed_while_others_come(
    gateway: ApiClient, create_cpu_rule: Make, evaluator: Evaluator
) -> None:
    create_cpu_rule(
        **ABSENCE | {"metric_name": "pressure", "parameters": {"expected_interval": 10}, "device_ids": ["boiler"]}
    )
    send(gateway, 1.0, metric="pressure", device="boiler", ago=30)
    send(gateway, 1.0, metric="cpu", device="boiler")
    send(gateway, 1.0, metric="pressure", device="pump", ago=30)
    run(evaluator)
    assert silent() == [("boiler", "active")]
    assert "no data of pressure since" in Alert.objects.get().message


def test_what_is_absent_is_told_once_also_after_a_restart(
    gateway: ApiClient, create_cpu_rule: Make, evaluator: Evaluator
) -> None:
    expect("boiler")
    create_cpu_rule(**ABSENCE)
    send(gateway, 1.0, device="boiler", ago=20)
    run(evaluator)
    run(evaluator)
    with dedicated_connection() as connection:
        run(Evaluator(connection))
    assert silent() == [("boiler", "active")]


def test_who_closed_an_absence_is_told_of_the_next_one_and_not_of_the_same(
    gateway: ApiClient, create_cpu_rule: Make, evaluator: Evaluator
) -> None:
    expect("boiler")
    create_cpu_rule(**ABSENCE)
    send(gateway, 1.0, device="boiler", ago=60)
    run(evaluator)
    alert_actions.resolve(Alert.objects.all(), Resolution.PERSON, "user:ana")
    run(evaluator)
    with dedicated_connection() as connection:
        run(Evaluator(connection))
    assert silent() == [("boiler", "resolved")]
    send(gateway, 1.0, device="boiler", ago=20)
    run(evaluator)
    assert silent() == [("boiler", "resolved"), ("boiler", "active")]


def test_five_thousand_silent_devices_are_told_in_one_step(
    site: None, create_cpu_rule: Make, evaluator: Evaluator
) -> None:
    created = datetime.now(UTC) - timedelta(seconds=60)
    Device.objects.bulk_create(
        Device(device_id=f"d{number}", expected_interval=10, created_at=created) for number in range(5000)
    )
    made = create_cpu_rule(**ABSENCE)
    Rule.objects.filter(pk=made.pk).update(updated_at=created)
    began = time.monotonic()
    run(evaluator)
    assert Alert.objects.count() == 5000
    assert time.monotonic() - began < 30
