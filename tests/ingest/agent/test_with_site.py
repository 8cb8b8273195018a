"""The agent against the site itself: what is stored of single snapshots, batches and repetitions."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest.agent.clock_offset import ClockOffset
from ingest.agent.machine_clock import MachineClock, rfc3339
from ingest.agent.poster import TelemetryPoster
from ingest.agent.queue import TelemetryQueue
from ingest.agent.sender import POLL_TIME, Sender
from tests.conftest import ApiClient
from tests.ingest.test_snapshot import FLAT


class SiteSender:
    """A queue and a sender with the key of a client."""

    def __init__(self, client: ApiClient, folder: Path) -> None:
        clock = MachineClock()
        self.queue = TelemetryQueue(folder / "queue.db", clock=clock)
        self.offset = ClockOffset(self.queue, clock)
        self.poster = TelemetryPoster(
            f"http://127.0.0.1:{client.port}", client.headers["X-Api-Key"], on_date=self.offset.learn
        )
        self.sender = Sender(self.queue, self.poster, self.offset)

    def send_all(self) -> None:
        while (pause := self.sender.step()) != POLL_TIME:
            assert pause == 0, self.sender.last_error

    def close(self) -> None:
        self.poster.close()
        self.queue.close()


@pytest.fixture
def agent(gateway: ApiClient, tmp_path: Path) -> Iterator[SiteSender]:
    sender = SiteSender(gateway, tmp_path)
    yield sender
    sender.close()


def measured(device: str, number: int, **more: Any) -> dict[str, Any]:
    fields = {**FLAT, "cpu_percent": number / 10, "agent.version": "1.0.0", **more}
    return {**fields, "node_id": device, "timestamp": rfc3339(time.time() - 3600 + 10 * number)}


def stored(client: ApiClient, device: str, metric: str) -> list[Any]:
    answer = client.get(f"devices/{device}/metrics/{metric}/range?time_range=24h&limit=1000").json
    return [point["value"] for point in answer["data_points"]]


@pytest.mark.slow
def test_backlog_and_single_snapshots_are_stored_once_as_the_same_series(agent: SiteSender, admin: ApiClient) -> None:
    agent.queue.enqueue(measured("box", 0))
    agent.send_all()
    snapshots = [measured("box", number, nested={"a": {"b": number}}) for number in range(1, 200)]
    for _ in range(2):  # the answer to the first was lost
        agent.queue.enqueue_many(snapshots)
        agent.send_all()
    assert stored(admin, "box", "cpu_percent") == [number / 10 for number in range(200)]
    assert stored(admin, "box", "memory_total_mb") == [16384.0] * 200
    assert stored(admin, "box", "nested.a.b") == [float(number) for number in range(1, 200)]
    assert stored(admin, "box", "agent.version") == ["1.0.0"] * 200
    assert agent.queue.get_stats()["sent"] == 399
    assert agent.offset.offset is not None
    assert abs(agent.offset.offset) < 3


@pytest.mark.slow
def test_rejected_snapshot_and_values_are_counted_and_do_not_hold_the_others(
    agent: SiteSender, admin: ApiClient
) -> None:
    too_large = {"node_id": "box", "timestamp": "2027-01-01T00:00:00Z", "n": 2**60}
    agent.queue.enqueue_many([measured("box", 1), too_large, measured("box", 2, bad=2**60), measured("box", 3)])
    agent.queue.enqueue_many([{"node_id": "box", "timestamp": "yesterday", "a": 1.0}, measured("box", 4)])
    agent.send_all()
    assert stored(admin, "box", "cpu_percent") == [0.1, 0.2, 0.3, 0.4]
    stats = agent.queue.get_stats()
    assert stats["points_rejected"] + stats["dropped"]["rejected"] >= 2
    assert stats["queue_size"] == 0


def test_key_of_another_device_keeps_the_snapshots(device: ApiClient, tmp_path: Path) -> None:
    sender = SiteSender(device, tmp_path)
    sender.queue.enqueue_many([measured("not_its_device", number) for number in range(3)])
    assert sender.sender.step() > 40
    assert sender.queue.get_queue_size() == 3
    assert sender.sender.last_error.startswith("http_403")
    sender.close()
