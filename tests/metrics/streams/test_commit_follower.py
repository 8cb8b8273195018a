"""The commit follower: each commit decoded once, the newest value per series to every feed, and gaps without loss."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from metrics.storage.connection import connect
from metrics.storage.format.codec import Kind
from metrics.storage.format.json_values import to_json_value
from metrics.storage.series_registry import current_registry
from metrics.streams.commit_follower import CommitFollower
from metrics.streams.encoding import SeriesValue
from metrics.streams.feeds import Feed, FeedBatch, FeedKey
from metrics.streams.gaps import Gap, read_gap, read_snapshot
from metrics.streams.positions import Epoch, Position
from metrics.streams.read_commits import read_next_commits
from rest.errors import InvalidField
from tests.conftest import ApiClient, point
from tests.metrics.deletion_steps import merge_all

EVERYTHING = FeedKey(None, None, max_frequency_ms=100)


class Received:
    """A sink that keeps all values."""

    def __init__(self) -> None:
        self.batches: list[FeedBatch] = []
        self.losses = 0

    def offer(self, batch: FeedBatch) -> None:
        self.batches.append(batch)

    def lost(self) -> None:
        self.losses += 1

    def values(self) -> list[SeriesValue]:
        return [value for batch in self.batches for value in batch.values]


async def until(is_true: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not is_true():
            await asyncio.sleep(0.01)


async def open_feed(follower: CommitFollower, key: FeedKey = EVERYTHING) -> tuple[Feed, Received]:
    feed, sink = await follower.subscribe(key), Received()
    feed.attach(sink)
    return feed, sink


def send(gateway: ApiClient, *points: dict[str, Any]) -> None:
    response = gateway.post("devices/streamed/telemetry/batch", {"data_points": list(points)})
    assert response.status == 200, response.json


async def sent(gateway: ApiClient, *points: dict[str, Any]) -> None:
    await asyncio.to_thread(send, gateway, *points)


async def test_commit_is_decoded_once_for_all_feeds(gateway: ApiClient) -> None:
    follower = CommitFollower()
    keys = [FeedKey(None, frozenset({"temperature", f"other {n}"}), max_frequency_ms=100) for n in range(20)]
    opened = [await open_feed(follower, key) for key in keys]
    await sent(gateway, point("temperature", 20.5), point("pressure", 1.0))
    await until(lambda: all(sink.values() for _, sink in opened))

    assert follower.decoded_commits == 1
    assert {(v.device_id, v.metric_name, v.value) for _, sink in opened for v in sink.values()} == {
        ("streamed", "temperature", 20.5)
    }
    for feed, _ in opened:
        follower.release(feed)


async def test_series_that_a_later_feed_knows_first_reaches_earlier_feeds(gateway: ApiClient) -> None:
    follower = CommitFollower()
    earlier, sink = await open_feed(follower)
    await asyncio.to_thread(create_series, "streamed", "temperature")
    later, _ = await open_feed(follower, FeedKey(None, frozenset({"temperature"}), max_frequency_ms=100))
    await sent(gateway, point("temperature", 20.5))
    await until(sink.values)
    follower.release(earlier)
    follower.release(later)


def create_series(device_id: str, metric: str) -> None:
    current_registry().create_missing([(device_id, metric, Kind.NUMERIC)])


async def test_newest_of_a_period_is_sent_with_the_number_of_skipped_values(gateway: ApiClient) -> None:
    follower = CommitFollower()
    feed, sink = await open_feed(follower, FeedKey(frozenset({"streamed"}), None, max_frequency_ms=100))
    await sent(gateway, *(point("temperature", n, 100 - n) for n in range(10)))
    await until(sink.values)

    (value,) = sink.values()
    assert (value.value, value.skipped, value.late) == (9, 9, False)
    assert sink.batches[0].encoded.startswith(b'{"type":"points","position":"')
    follower.release(feed)


@pytest.mark.parametrize("values", [(1.0, "a"), ("a", 1.0), (True, "a", 2.0), (2.0, True)])
def test_commits_read_together_have_the_last_kind_of_value_only(gateway: ApiClient, values: tuple[Any, ...]) -> None:
    for value in (1.0, "a", True):  # the metric has all kinds before
        send(gateway, point("state", value, 100))
    before = read_next_commits(None).position
    moment = point("state")["timestamp"]
    for value in values:
        send(gateway, {**point("state", value), "timestamp": moment})

    read = read_next_commits(before)

    assert read.commits == len(values)
    [part] = read.parts
    assert len(part) == 1
    with connect() as connection:
        [(kind,)] = connection.execute("SELECT kind FROM metrics_series WHERE id = %s", (int(part.ids[0]),))
    assert to_json_value(part.values[0], Kind(kind)) == values[-1]


async def test_older_value_is_sent_as_late(gateway: ApiClient) -> None:
    follower = CommitFollower()
    feed, sink = await open_feed(follower)
    await sent(gateway, point("temperature", 1, 10))
    await until(sink.values)
    await sent(gateway, point("temperature", 2, 20))
    await until(lambda: len(sink.values()) == 2)

    first, second = sink.values()
    assert not first.late
    assert second.late
    assert second.timestamp < first.timestamp
    follower.release(feed)


async def test_point_without_the_tag_is_not_sent(gateway: ApiClient) -> None:
    follower = CommitFollower()
    feed, sink = await open_feed(follower, FeedKey(None, None, frozenset({("room", "A")}), 100))
    await sent(
        gateway,
        point("temperature", 1, 10, tags={"room": "A"}),
        point("temperature", 2, 5, tags={"room": "B"}),
        point("pressure", 3),
    )
    await until(sink.values)
    await sent(gateway, point("temperature", 4, tags={"room": "A"}))
    await until(lambda: len(sink.values()) == 2)

    assert [value.value for value in sink.values()] == [1, 4]
    follower.release(feed)


def missed(position: str, key: FeedKey = EVERYTHING) -> Gap:
    return read_gap(key, Position.parse(position))


@pytest.mark.parametrize("is_merged", [False, True], ids=["commits", "merged blocks"])
async def test_gap_has_every_point_after_the_position(gateway: ApiClient, is_merged: bool) -> None:
    follower = CommitFollower()
    feed, sink = await open_feed(follower)
    await sent(gateway, point("temperature", 1, 1000))
    await until(sink.values)
    position = sink.batches[-1].position
    follower.release(feed)
    for n in range(5):
        await sent(gateway, point("temperature", 2 + n, 500 - n), point("pressure", n, 5000 + n))
    if is_merged:
        await asyncio.to_thread(merge_all)
        with connect() as connection:
            connection.execute("DELETE FROM metrics_young")

    gap = await asyncio.to_thread(missed, position)
    assert gap.recovered
    series = {name: [v.value for v in gap.values if v.metric_name == name] for name in ("temperature", "pressure")}
    assert series["temperature"][-5:] == [2, 3, 4, 5, 6]
    assert series["pressure"] == [4, 3, 2, 1, 0]
    assert (await asyncio.to_thread(missed, await reached(follower))).values == []


async def reached(follower: CommitFollower) -> str:
    feed = await follower.subscribe(EVERYTHING)
    position = feed.position
    follower.release(feed)
    return position


async def test_gap_after_another_epoch_or_the_future_is_not_recovered(gateway: ApiClient) -> None:
    await sent(gateway, point())
    position = Position.parse(await reached(CommitFollower()))

    other = await asyncio.to_thread(read_gap, EVERYTHING, Position(Epoch("00000000"), position.offsets))
    future = await asyncio.to_thread(read_gap, EVERYTHING, Position(position.epoch, (position.offsets[0] + 1,)))
    assert (other, future) == (Gap(False, "epoch"), Gap(False, "future"))


async def test_snapshot_has_the_newest_value_of_each_series(gateway: ApiClient) -> None:
    await sent(gateway, point("temperature", 1, 10), point("temperature", 2, 5), point("state", "on", 7))
    values = await asyncio.to_thread(read_snapshot, EVERYTHING)
    assert [(value.metric_name, value.value) for value in values] == [("state", "on"), ("temperature", 2)]
    assert await asyncio.to_thread(read_snapshot, FeedKey(frozenset(), None)) == []


async def test_lower_head_after_a_restore_is_reported_as_lost(gateway: ApiClient) -> None:
    await sent(gateway, point())
    follower = CommitFollower()
    feed, sink = await open_feed(follower)
    with connect() as connection:
        connection.execute("DELETE FROM metrics_young")
        connection.execute("UPDATE metrics_head SET seq = 0")
    await until(lambda: sink.losses)
    assert feed.position.endswith(".0")
    follower.release(feed)


@pytest.mark.parametrize("text", ["", "1", "12345678", "12345678.", "12345678.-1", "x2345678.1", "12345678.1.2"])
def test_malformed_position_is_refused_with_its_field(text: str) -> None:
    with pytest.raises(InvalidField, match="position") as raised:
        Position.parse(text)
    assert raised.value.errors[0]["field"] == "resume_from"
