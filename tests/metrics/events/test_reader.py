"""Readers of the outbox: each committed event exactly once, whatever order transactions commit in."""

import threading
from collections.abc import Iterator

import pytest
from django.db import connections, transaction

from metrics.events.definitions import DeviceCreated
from metrics.events.outbox import OutsideTransaction, record_event
from metrics.events.reader import Band, LiveReader, StoredEvent, oldest_running_transaction, read_band
from metrics.storage.connection import Connection, connect
from tests.metrics.events.random_writers import RandomWriters

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def connection() -> Iterator[Connection]:
    with connect() as opened:
        yield opened


class OpenTransaction(threading.Thread):
    """Records an event in a transaction of its own, which ends when it is told to."""

    def __init__(self, device_id: str) -> None:
        super().__init__(daemon=True)
        self.device_id = device_id
        self.written, self.may_end = threading.Event(), threading.Event()
        self.start()
        assert self.written.wait(10)

    def run(self) -> None:
        with transaction.atomic():
            record_event(DeviceCreated(device_id=self.device_id))
            self.written.set()
            self.may_end.wait(10)
        connections.close_all()

    def commit(self) -> None:
        self.may_end.set()
        self.join(10)
        assert not self.is_alive()


def devices(events: list[StoredEvent]) -> list[str | None]:
    """Return the devices of events; those of metrics are of earlier tests, whose transactions count as running."""
    return [event.device_id for event in events if event.device_id is not None]


def read_by_largest_id(connection: Connection, last: int) -> tuple[int, list[str]]:
    rows = connection.execute(
        "SELECT id, device_id FROM metrics_event WHERE id > %s AND device_id LIKE 'written%%' ORDER BY id", (last,)
    ).fetchall()
    return max([last, *(row[0] for row in rows)]), [row[1] for row in rows]


@pytest.mark.slow
def test_reader_by_largest_id_loses_late_commit_and_both_readers_do_not(connection: Connection) -> None:
    live = LiveReader.from_now(connection)
    band = Band(live.threshold, live.threshold)
    early = OpenTransaction("written first")
    OpenTransaction("written second").commit()

    last, by_id = read_by_largest_id(connection, 0)
    live_events = live.read(connection)
    band, band_events = read_band(connection, band, 100)
    early.commit()
    last, more = read_by_largest_id(connection, last)

    assert by_id + more == ["written second"]
    assert devices(live_events) + devices(live.read(connection)) == ["written second", "written first"]
    assert devices(band_events) + devices(read_band(connection, band, 100)[1]) == ["written first", "written second"]


@pytest.mark.slow
def test_both_readers_return_each_event_once_with_eight_writers(connection: Connection) -> None:
    live = LiveReader.from_now(connection)
    band = Band(live.threshold, live.threshold)
    writers = RandomWriters(seed=13, rounds=40, max_pause=0.04)
    from_live: list[StoredEvent] = []
    from_band: list[StoredEvent] = []
    while True:
        ended = writers.have_ended
        from_live += live.read(connection, 7)
        band, events = read_band(connection, band, 7)
        if events:
            band = Band(band.low, band.high, events[-1].id)
        from_band += events
        if ended and not events and band.low == oldest_running_transaction(connection):
            from_live += live.read(connection)
            break

    writers.check(devices(from_live))
    writers.check(devices(from_band))


@pytest.mark.slow
def test_event_outside_of_a_transaction_is_refused() -> None:
    with pytest.raises(OutsideTransaction, match=r"device\.created"):
        record_event(DeviceCreated(device_id="d"))


@pytest.mark.slow
def test_rolled_back_change_leaves_no_event(connection: Connection) -> None:
    live = LiveReader.from_now(connection)
    with transaction.atomic():
        record_event(DeviceCreated(device_id="kept"))
        with pytest.raises(InterruptedError), transaction.atomic():
            record_event(DeviceCreated(device_id="rolled back"))
            raise InterruptedError
    assert devices(live.read(connection)) == ["kept"]


@pytest.mark.slow
def test_envelope_has_id_type_subject_time_and_data(connection: Connection) -> None:
    live = LiveReader.from_now(connection)
    with transaction.atomic():
        record_event(DeviceCreated(device_id="d/1"))
    (event,) = live.read(connection)
    envelope = event.envelope()
    assert envelope == {
        "id": event.event_id,
        "type": "device.created",
        "subject": "device/d/1",
        "time": envelope["time"],
        "data": {"device_id": "d/1", "name": ""},
    }
    assert envelope["time"].endswith("Z")
