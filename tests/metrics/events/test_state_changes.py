"""Events of devices that fall silent and come back."""

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from metrics import tasks
from metrics.devices.device_state import OFFLINE, count_states, ranks_of
from metrics.devices.state_changes import record_state_changes
from metrics.models import Device, Event, SilentDevice
from metrics.query.last_seen import cached_last_seen, clear_cache
from metrics.storage.connection import Connection, connect
from metrics.storage.locks import lock_device_states
from tests.conftest import ApiClient, point
from tests.metrics.events.recorded import forget_events, recorded_events


@pytest.fixture
def connection(site: None) -> Iterator[Connection]:
    with connect() as opened:
        yield opened


def _send(gateway: ApiClient, device: str, seconds_ago: float) -> str:
    sent = point(seconds_ago=seconds_ago)
    assert gateway.post(f"devices/{device}/telemetry", sent).status in (200, 201, 202)
    return str(sent["timestamp"])


def test_device_over_its_limit_is_silent_once_and_back_once(gateway: ApiClient, connection: Connection) -> None:
    seen = _send(gateway, "boiler", 301)
    _send(gateway, "pump", 290)
    forget_events()
    assert [record_state_changes(connection) for _ in range(3)] == [1, 0, 0]
    assert recorded_events() == [
        ("device.silent", "device/boiler", {"device_id": "boiler", "last_seen": seen, "offline_after_seconds": 300})
    ]
    back = _send(gateway, "boiler", 0)
    assert [record_state_changes(connection) for _ in range(3)] == [1, 0, 0]
    assert recorded_events()[1:] == [("device.back", "device/boiler", {"device_id": "boiler", "last_seen": back})]
    assert set(Event.objects.values_list("device_id", "owner_id")) == {("boiler", None)}
    assert not SilentDevice.objects.exists()


def test_limit_is_ten_expected_intervals_as_on_the_pages(gateway: ApiClient, connection: Connection) -> None:
    for device, interval in (("fast", 1), ("slow", 60)):
        _send(gateway, device, 301)
        Device.objects.filter(device_id=device).update(expected_interval=interval)
    forget_events()
    record_state_changes(connection)
    assert [(event[1], event[2]["offline_after_seconds"]) for event in recorded_events()] == [("device/fast", 10)]
    clear_cache()
    assert count_states(ranks_of(cached_last_seen()))[OFFLINE] == 1


def test_device_without_points_is_never_silent(connection: Connection) -> None:
    Device.objects.create(device_id="new")
    assert record_state_changes(connection) == 0


def test_deleted_silent_device_has_no_event_of_its_return(gateway: ApiClient, connection: Connection) -> None:
    _send(gateway, "boiler", 400)
    record_state_changes(connection)
    Device.objects.get().delete()
    forget_events()
    record_state_changes(connection)
    assert recorded_events() == []
    assert not SilentDevice.objects.exists()


def test_second_worker_records_nothing_while_the_first_one_does(gateway: ApiClient, connection: Connection) -> None:
    _send(gateway, "boiler", 400)
    with connect() as other, other.transaction():
        assert lock_device_states(other)
        assert record_state_changes(connection) == 0
    assert record_state_changes(connection) == 1


def test_changes_are_recorded_less_often_when_reading_all_devices_takes_long(
    site: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    began: list[float] = []

    def take_three_seconds(connection: Connection) -> int:
        began.append(clock[0])
        clock[0] += 3
        return 0

    monkeypatch.setattr(tasks, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(tasks.state_changes, "record_state_changes", take_three_seconds)
    for _ in range(10):
        tasks.record_device_states()
        clock[0] += 10
    assert began == [1000, 1033, 1066, 1099]


@pytest.mark.slow
def test_four_workers_at_once_record_each_device_once(gateway: ApiClient, connection: Connection) -> None:
    for number in range(50):
        _send(gateway, f"d{number}", 400)
    forget_events()
    start = threading.Barrier(4)

    def work() -> None:
        with connect() as own:
            start.wait(10)
            for _ in range(5):
                record_state_changes(own)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    subjects = [subject for _, subject, _ in recorded_events("device.silent")]
    assert sorted(subjects) == sorted({f"device/d{number}" for number in range(50)})


def test_changes_that_are_rolled_back_are_recorded_by_the_next_call(gateway: ApiClient, connection: Connection) -> None:
    _send(gateway, "boiler", 400)
    forget_events()
    with pytest.raises(RuntimeError), connection.transaction():
        assert record_state_changes(connection) == 1
        raise RuntimeError
    assert recorded_events() == []
    assert record_state_changes(connection) == 1


class CountingCursor(psycopg.Cursor[Any]):
    """Counts the inserts into the outbox."""

    inserts = 0

    def execute(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        CountingCursor.inserts += "INSERT INTO metrics_event" in str(query)
        return super().execute(query, *args, **kwargs)


@pytest.mark.slow
def test_ten_thousand_devices_that_fall_silent_are_one_insert(
    gateway: ApiClient, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = point(seconds_ago=400)
    for first in range(0, 10_000, 1000):
        devices = {f"d{number}": [old] for number in range(first, first + 1000)}
        assert gateway.post("bulk", devices).status in (200, 201, 202)
    assert Event.objects.filter(type="device.created").count() == 10_000
    monkeypatch.setattr(CountingCursor, "inserts", 0)
    connection.cursor_factory = CountingCursor
    assert record_state_changes(connection) == 10_000
    assert CountingCursor.inserts == 1
    assert Event.objects.filter(type="device.silent").count() == 10_000
