"""The event follower: each event read once for all listeners, and what it does when it cannot read."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.db import connection, transaction

from metrics.events.definitions import DeviceSilent
from metrics.events.outbox import record_events
from metrics.streams import event_follower
from metrics.streams.event_follower import EventBatch, EventFollower, LostReason
from metrics.streams.positions import Epoch

TERMINATE_READERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'telemetry storage'
"""


class Received:
    """A listener that keeps everything."""

    def __init__(self) -> None:
        self.devices: list[str | None] = []
        self.batches: list[EventBatch] = []
        self.losses: list[LostReason] = []

    async def deliver(self, batch: EventBatch) -> None:
        self.batches.append(batch)
        self.devices += [event.device_id for event in batch.events]

    def lost(self, reason: LostReason) -> None:
        self.losses.append(reason)


class FailingListener(Received):
    async def deliver(self, batch: EventBatch) -> None:
        raise RuntimeError("a fault of the listener")


@database_sync_to_async
def record(*devices: str) -> None:
    with transaction.atomic():
        record_events(
            DeviceSilent(device_id=device, last_seen=datetime(2026, 1, 1, tzinfo=UTC), offline_after_seconds=300)
            for device in devices
        )


async def until(is_true: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not is_true():
            await asyncio.sleep(0.01)


@pytest.mark.slow
async def test_event_is_read_once_for_all_listeners(site: None) -> None:
    follower, listeners = EventFollower(), [Received() for _ in range(20)]
    await record("before")
    for listener in listeners:
        await follower.attach(listener)
    position = follower.position
    await record("a", "b")
    await until(lambda: all(listener.devices == ["a", "b"] for listener in listeners))
    assert follower.decoded_events == 2
    assert listeners[0].batches[0].position == position
    for listener in listeners[1:]:
        follower.detach(listener)
    await record("c")
    await until(lambda: listeners[0].devices == ["a", "b", "c"])
    assert listeners[1].devices == ["a", "b"] and not any(listener.losses for listener in listeners)
    follower.detach(listeners[0])


@pytest.mark.slow
async def test_nothing_is_read_without_a_listener(site: None) -> None:
    follower, listener = EventFollower(), Received()
    await follower.attach(listener)
    follower.detach(listener)
    task = follower._task
    assert task is not None
    await until(task.done)
    await record("a")
    await follower.attach(again := Received())
    await record("b")
    await until(lambda: again.devices == ["b"])
    assert listener.devices == []
    follower.detach(again)


async def test_failing_listener_does_not_keep_events_from_others(site: None, caplog: pytest.LogCaptureFixture) -> None:
    follower, failing, listener = EventFollower(), FailingListener(), Received()
    await follower.attach(failing)
    await follower.attach(listener)
    for device in ("a", "b"):
        await record(device)
    await until(lambda: listener.devices == ["a", "b"])
    assert "a listener of live events failed" in caplog.text
    for one in (failing, listener):
        follower.detach(one)


@pytest.mark.slow
async def test_events_during_a_lost_connection_arrive_afterwards(site: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_follower, "RETRY_INTERVAL", 0.05)
    follower, listener = EventFollower(), Received()
    await follower.attach(listener)
    for number in range(3):
        await database_sync_to_async(_terminate_readers)()
        await record(str(number))
        await until(lambda expected=number + 1: len(listener.devices) == expected)
    assert listener.devices == ["0", "1", "2"] and not listener.losses
    follower.detach(listener)


def _terminate_readers() -> None:
    with connection.cursor() as cursor:
        cursor.execute(TERMINATE_READERS)


@pytest.mark.slow
@pytest.mark.parametrize("change", ["epoch", "outage"])
async def test_listeners_learn_that_events_may_be_missing(
    site: None, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Another database answers at the address, or reads failed for longer than events are kept."""
    follower, listener = EventFollower(), Received()
    await follower.attach(listener)
    if change == "epoch":
        monkeypatch.setattr(event_follower, "read_epoch", lambda _: Epoch("00000000"))
        monkeypatch.setattr(event_follower, "EPOCH_PERIOD", 0.0)
    else:
        monkeypatch.setattr(event_follower, "MAX_OUTAGE", -1.0)
    await until(lambda: listener.losses)
    assert listener.losses[0] == ("epoch" if change == "epoch" else "too_old")
    monkeypatch.setattr(event_follower, "MAX_OUTAGE", 300.0)
    await record("a")
    await until(lambda: listener.devices[-1:] == ["a"])
    if change == "epoch":
        assert follower.position.startswith("00000000.")
    follower.detach(listener)
