"""The writer of a stream: shared bytes for fast clients, bounded memory for slow ones."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from dashboard.streams import frames, socket_writer
from dashboard.streams.close_codes import FLOOD, TOO_SLOW, CloseReason
from dashboard.streams.socket_writer import MAX_EVENTS, Closed, SocketWriter
from metrics.streams.encoding import SeriesValue
from metrics.streams.feeds import FeedBatch


def value_at(series_id: int, timestamp: int, value: float = 1.0, **more: Any) -> SeriesValue:
    return SeriesValue(series_id, "press", "temperature", timestamp, value, "°C", **more)


@dataclass
class Client:
    """A connection whose client takes frames only while `reads` is set."""

    reads: asyncio.Event = field(default_factory=asyncio.Event)
    received: list[bytes] = field(default_factory=list)
    closed_with: CloseReason | None = None
    is_lost: bool = False

    async def send(self, frame: bytes, position: str | None) -> None:
        if self.is_lost:
            raise ConnectionResetError
        self.received.append(frame)
        await self.reads.wait()

    async def close(self, reason: CloseReason) -> None:
        self.closed_with = reason

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(frame) for frame in self.received]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def ended() -> list[CloseReason | None]:
    return []


@pytest.fixture
def writer(client: Client, ended: list[CloseReason | None]) -> SocketWriter:
    return SocketWriter(client, ended.append)


def started(writer: SocketWriter, subscription: str | None = None) -> Any:
    sink = writer.add_sink(lambda: None, subscription)
    sink.start({})
    return sink


async def test_client_that_keeps_up_gets_the_shared_bytes(client: Client, writer: SocketWriter):
    client.reads.set()
    sink, batch = started(writer), FeedBatch("e.1", [value_at(1, 10)])
    sink.offer(batch)
    await until(lambda: client.received)
    assert client.received[0] is batch.encoded


async def test_slow_client_gets_the_newest_value_and_the_number_of_skipped_ones(client: Client, writer: SocketWriter):
    sink = started(writer)
    for number in range(1, 6):
        sink.offer(FeedBatch(f"e.{number}", [value_at(1, number, float(number), skipped=1), value_at(2, number)]))
        await asyncio.sleep(0)
    client.reads.set()
    await until(lambda: len(client.received) == 2)
    first, second = client.messages
    assert [value["value"] for value in first["values"]] == [1.0, 1.0]
    assert second["position"] == "e.5"
    assert [(value["value"], value.get("skipped")) for value in second["values"]] == [(5.0, 7), (1.0, 3)]


async def test_pending_values_do_not_exceed_the_number_of_series(client: Client, writer: SocketWriter):
    sink = started(writer)
    for number in range(1_000):
        sink.offer(FeedBatch(f"e.{number}", [value_at(series, number) for series in range(5)]))
        await asyncio.sleep(0)
        assert sink.pending_count <= 5


async def test_late_value_does_not_replace_the_newest(client: Client, writer: SocketWriter):
    sink = started(writer)
    sink.offer(FeedBatch("e.1", [value_at(9, 1)]))
    await until(lambda: client.received)  # the client does not read from here on
    sink.offer(FeedBatch("e.2", [value_at(1, 20, 20.0)]))
    sink.offer(FeedBatch("e.3", [value_at(1, 10, 10.0, late=True), value_at(2, 5, 5.0, late=True)]))
    client.reads.set()
    await until(lambda: len(client.received) == 2)
    newest, late = client.messages[1]["values"]
    assert (newest["value"], newest["skipped"], "late" in newest) == (20.0, 1, False)
    assert (late["value"], late["late"]) == (5.0, True)


async def test_values_wait_for_the_snapshot_and_are_not_sent_twice(client: Client, writer: SocketWriter):
    client.reads.set()
    sink = writer.add_sink(lambda: None)
    sink.offer(FeedBatch("e.2", [value_at(1, 20), value_at(2, 21), value_at(3, 19)]))
    await writer.send((frame, None) for frame in frames.snapshot([], "e.1"))
    assert [message["type"] for message in client.messages] == ["snapshot"]
    sink.start({series_id: value_at(series_id, 20) for series_id in (1, 2, 3)})
    await until(lambda: len(client.received) == 2)
    values = [(value["timestamp"][-8:], "late" in value) for value in client.messages[1]["values"]]
    assert values == [(".000021Z", False), (".000019Z", True)]


async def test_subscriptions_of_one_stream_are_named_and_kept_apart(client: Client, writer: SocketWriter):
    sinks = {name: started(writer, name) for name in ("a", 'b"')}
    for position in ("e.1", "e.2", "e.3"):
        for sink in sinks.values():
            sink.offer(FeedBatch(position, [value_at(1, int(position[-1]))]))
        await asyncio.sleep(0)
    client.reads.set()
    await until(lambda: len(client.received) == 3)
    assert {(message["subscription"], message["position"]) for message in client.messages} == {
        ("a", "e.1"),
        ("a", "e.3"),
        ('b"', "e.3"),
    }


async def test_events_that_overflow_the_ring_become_one_resync(client: Client, writer: SocketWriter):
    writer.offer_event(frames.event("alerts", "e.0", {"id": "first"}), "e.0")
    await until(lambda: client.received)
    for number in range(MAX_EVENTS + 3):
        writer.offer_event(frames.event("alerts", f"e.{number}", {"id": number}), f"e.{number}")
    client.reads.set()
    await until(lambda: len(client.received) == 5)
    await asyncio.sleep(0.02)
    kinds = [message["type"] for message in client.messages]
    assert kinds == ["event", "resync", "event", "event", "event"]
    assert client.messages[-1]["event"]["id"] == MAX_EVENTS + 2


async def test_only_the_newest_figures_are_sent(client: Client, writer: SocketWriter):
    writer.offer_ping(b'{"type":"ping"}')
    await until(lambda: client.received)
    for number in range(5):
        writer.offer_dashboard(frames.dashboard({"devices": number}))
    client.reads.set()
    await until(lambda: len(client.received) == 2)
    assert client.messages[1]["figures"] == {"devices": 4}


async def test_client_that_does_not_read_is_ended_as_too_slow(
    client: Client, writer: SocketWriter, ended: list[CloseReason | None], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(socket_writer, "SEND_TIMEOUT", 0.02)
    sink = started(writer)
    sink.offer(FeedBatch("e.1", [value_at(1, 1)]))
    await until(lambda: ended)
    assert ended == [TOO_SLOW]


async def test_client_that_reads_each_frame_slowly_is_ended(
    writer: SocketWriter, client: Client, ended: list[CloseReason | None], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(socket_writer, "MAX_DRAIN_TIME", 0.0)
    client.reads.set()
    for number in range(3):
        writer.offer_event(frames.event("alerts", f"e.{number}", {}), f"e.{number}")
    await until(lambda: ended)
    assert ended == [TOO_SLOW]
    assert len(client.received) == 1


async def test_lost_connection_ends_without_a_reason(
    client: Client, writer: SocketWriter, ended: list[CloseReason | None]
):
    client.is_lost = True
    writer.offer_ping(b"{}")
    await until(lambda: ended)
    assert ended == [None]


async def test_closed_writer_sends_nothing_but_the_reason(client: Client, writer: SocketWriter):
    client.reads.set()
    sink = started(writer)
    await writer.close(FLOOD)
    sink.offer(FeedBatch("e.1", [value_at(1, 1)]))
    with pytest.raises(Closed):
        await writer.send([(b"{}", None)])
    assert client.received == []
    assert client.closed_with == FLOOD


async def test_idle_writer_has_no_task(client: Client, writer: SocketWriter):
    client.reads.set()
    writer.offer_ping(b"{}")
    await until(lambda: client.received)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
