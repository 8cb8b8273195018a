"""Order of the events of one subject whose changes wait for each other, read while the writers run."""

import random
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence

import pytest
from django.db import connection as django_connection
from django.db import connections, transaction

from metrics.events.definitions import DeviceUpdated
from metrics.events.outbox import record_event, write_events
from metrics.events.reader import Band, LiveReader, StoredEvent, oldest_running_transaction, read_band
from metrics.models import Device
from metrics.storage.connection import Connection, connect

WRITERS, CHANGES, SUBJECTS = 8, 25, ("a", "b")
_INCREMENT = """
UPDATE metrics_device SET expected_interval = expected_interval + 1 WHERE device_id = %s RETURNING expected_interval
"""


@pytest.fixture
def connection(site: None) -> Iterator[Connection]:
    with connect() as opened:
        yield opened


def _change_subjects(number: int) -> None:
    """Count up shared rows; half of the transactions get their id before they wait for the row."""
    chance = random.Random(number)
    for _ in range(CHANGES):
        device_id = chance.choice(SUBJECTS)
        with transaction.atomic(), django_connection.cursor() as cursor:
            if chance.random() < 0.5:
                cursor.execute("SELECT pg_current_xact_id(), pg_sleep(%s)", (chance.random() * 0.02,))
            cursor.execute(_INCREMENT, (device_id,))
            [count] = cursor.fetchone()
            record_event(DeviceUpdated(device_id=device_id, name=str(count), changed=[]))
            cursor.execute("SELECT pg_sleep(%s)", (chance.random() * 0.01,))
    connections.close_all()


def _counts(events: Sequence[StoredEvent]) -> dict[str | None, list[int]]:
    counts: dict[str | None, list[int]] = defaultdict(list)
    for event in events:
        counts[event.device_id].append(int(event.data["name"]))
    return counts


@pytest.mark.slow
def test_changes_that_wait_for_each_other_are_read_in_their_order_by_both_readers(connection: Connection) -> None:
    for device_id in SUBJECTS:
        Device.objects.create(device_id=device_id, expected_interval=0)
    live = LiveReader.from_now(connection)
    live.read(connection)  # the created devices
    band = Band(live.threshold, live.threshold)
    threads = [threading.Thread(target=_change_subjects, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    from_live: list[StoredEvent] = []
    from_band: list[StoredEvent] = []
    is_read = False
    while not is_read:
        have_ended = not any(thread.is_alive() for thread in threads)
        from_live += live.read(connection)
        band, events = read_band(connection, band, 5)
        if events:
            band = Band(band.low, band.high, events[-1].id)
        from_band += events
        is_read = have_ended and not events and band.low == oldest_running_transaction(connection)
    from_live += live.read(connection)
    for received in (from_live, from_band):
        counts = _counts(received)
        assert sum(map(len, counts.values())) == WRITERS * CHANGES
        assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in counts.values())


def _write(connection: Connection, name: str) -> None:
    write_events(connection, [DeviceUpdated(device_id="a", name=name, changed=[])])


@pytest.mark.slow
def test_bands_keep_the_order_of_a_transaction_that_waited_for_one_with_a_larger_id(connection: Connection) -> None:
    start = oldest_running_transaction(connection)
    band = Band(start, start)
    with connect() as waiting, connect() as between, connect() as first:
        for opened in (waiting, between, first):
            opened.execute("BEGIN")
            opened.execute("SELECT pg_current_xact_id()")
        _write(first, "first")
        first.execute("COMMIT")
        _write(waiting, "second")
        waiting.execute("COMMIT")
        band, events = read_band(connection, band, 10)
        assert events == []  # `between` separates the two ids
        between.execute("COMMIT")
    _, events = read_band(connection, band, 10)
    assert [event.data["name"] for event in events] == ["first", "second"]
