"""The disk queue: order, limits, counters and restarts."""

import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ingest.agent.queue import MAX_SNAPSHOT, TelemetryQueue
from tests.ingest.agent.conftest import ManualClock, OpenQueue, drain, snapshot

ROOT = Path(__file__).resolve().parents[3]


def assert_balanced(queue: TelemetryQueue) -> None:
    stats = queue.get_stats()
    assert stats["written"] == stats["sent"] + stats["dropped_total"] + stats["lost"] + stats["queue_size"], stats


def test_documented_example(tmp_path: Path) -> None:
    queue = TelemetryQueue(db_path=str(tmp_path / "telemetry_queue.db"), max_size=1000)
    entry_id = queue.enqueue({"node_id": "a", "timestamp": "2027-01-01T00:00:00Z", "cpu_percent": 1.5})
    (item,) = queue.dequeue(limit=10)
    assert (entry_id, item.id, item.payload["cpu_percent"], item.retry_count) == (1, 1, 1.5, 0)
    for _ in range(3):
        queue.mark_failed(entry_id, max_retries=3)
    assert queue.get_queue_size() == 0
    assert queue.get_stats()["dropped"]["retries"] == 1
    queue.close()


class QueueModel(RuleBasedStateMachine):
    """The queue against a list, with restarts in between."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.clock = ManualClock()
        self.model: deque[tuple[int, int, float, int]] = deque()  # id, number, time of adding, size
        self.number = self.sent = 0
        self.dropped = {"size": 0, "age": 0, "rejected": 0}
        self.open()

    def open(self) -> None:
        self.queue = TelemetryQueue(
            Path(self.folder.name) / "q.db", max_size=8, max_bytes=3000, max_age=100, clock=self.clock
        )

    def drop_oldest(self, reason: str) -> None:
        self.model.popleft()
        self.dropped[reason] += 1

    def expire(self) -> None:
        while self.model and self.clock.up - self.model[0][2] > 100:
            self.drop_oldest("age")

    @rule(sizes=st.lists(st.integers(0, 900), min_size=1, max_size=10))
    def enqueue(self, sizes: list[int]) -> None:
        payloads = [snapshot(self.number + index, text="x" * size) for index, size in enumerate(sizes)]
        ids = self.queue.enqueue_many(payloads)
        self.expire()
        for row, payload in zip(ids, payloads, strict=True):
            size = len(str(payload).replace(" ", ""))
            self.model.append((row, payload["number"], self.clock.up, size))
        self.number += len(sizes)
        while len(self.model) > 8 or (sum(entry[3] for entry in self.model) > 3000 and len(self.model) > 1):
            self.drop_oldest("size")

    @rule(limit=st.integers(1, 12))
    def dequeue(self, limit: int) -> None:
        numbers = [item.payload["number"] for item in self.queue.dequeue(limit)]
        self.expire()
        assert numbers == [entry[1] for entry in self.model][:limit]

    @precondition(lambda self: self.model)
    @rule(count=st.integers(1, 4), rejected=st.booleans())
    def finish(self, count: int, rejected: bool) -> None:
        ids = [self.model.popleft()[0] for _ in range(min(count, len(self.model)))]
        if rejected:
            self.queue.mark_rejected(ids)
            self.dropped["rejected"] += len(ids)
        else:
            self.queue.mark_sent(ids)
            self.sent += len(ids)

    @rule(seconds=st.integers(1, 60), step=st.sampled_from([0, 0, 0, 3e8, -3e8]))
    def advance(self, seconds: int, step: float) -> None:
        self.clock.advance(seconds)
        self.clock.now += step  # set by NTP or by hand: does not age the snapshots

    @rule()
    def restart(self) -> None:
        self.queue.close()
        self.open()

    @invariant()
    def counters_agree(self) -> None:
        stats = self.queue.get_stats()
        assert stats["queue_size"] == len(self.model)
        assert stats["bytes"] == sum(entry[3] for entry in self.model)
        assert stats["sent"] == self.sent
        assert {reason: stats["dropped"][reason] for reason in self.dropped} == self.dropped
        assert_balanced(self.queue)

    def teardown(self) -> None:
        self.queue.close()
        self.folder.cleanup()


TestQueueModel = pytest.mark.slow(QueueModel.TestCase)
TestQueueModel.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)


@pytest.mark.parametrize(
    "payload",
    [{"a": float("nan")}, {"a": object()}, {"a": "x" * MAX_SNAPSHOT}, [1]],
    ids=["nan", "type", "size", "list"],
)
def test_snapshot_that_cannot_be_sent_is_refused(open_queue: OpenQueue, payload: Any) -> None:
    queue = open_queue()
    with pytest.raises(ValueError, match="a snapshot"):
        queue.enqueue(payload)
    assert queue.get_queue_size() == 0


@pytest.mark.parametrize("option", ["max_size", "max_bytes", "max_age"])
def test_limit_of_zero_is_refused(open_queue: OpenQueue, option: str) -> None:
    with pytest.raises(ValueError, match=f"{option} is 0: more than 0 is accepted"):
        open_queue(**{option: 0})


def test_machine_that_was_off_for_years_by_its_clock_keeps_its_snapshots(
    open_queue: OpenQueue, clock: ManualClock
) -> None:
    clock.now = 100.0  # 1970: no battery
    queue = open_queue()
    queue.enqueue(snapshot(1))
    queue.close()
    clock.now, clock.up, clock.boot = 1.8e9, 5.0, "0c" * 16
    assert drain(open_queue()) == [1]


@pytest.mark.slow
def test_24_hours_at_10_seconds_are_kept_with_the_defaults_of_the_agent(open_queue: OpenQueue) -> None:
    from ingest.agent.config import MAX_SIZE

    queue = open_queue(max_size=MAX_SIZE)
    queue.enqueue_many([snapshot(10 * index, text="x" * 500) for index in range(8640)])
    assert (queue.get_queue_size(), queue.get_stats()["dropped_total"]) == (8640, 0)


@pytest.mark.slow
def test_two_threads_and_two_openings_share_a_queue(open_queue: OpenQueue) -> None:
    first, second = open_queue(), open_queue()

    def add(queue: TelemetryQueue, start: int) -> None:
        for number in range(start, start + 50):
            queue.enqueue(snapshot(number))

    threads = [threading.Thread(target=add, args=(queue, 100 * index)) for index, queue in enumerate((first, second))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_balanced(first)
    assert sorted(drain(second)) == [*range(50), *range(100, 150)]


def test_counters_outlive_a_restart(open_queue: OpenQueue) -> None:
    queue = open_queue(max_size=2)
    for number in range(5):
        queue.enqueue(snapshot(number))
    queue.mark_sent(4)
    queue.close()
    queue = open_queue(max_size=2)
    stats = queue.get_stats()
    assert (stats["written"], stats["sent"], stats["dropped"]["size"], stats["queue_size"]) == (5, 1, 3, 1)


@pytest.mark.slow
def test_adding_and_finishing_a_batch_costs_two_fsyncs(tmp_path: Path) -> None:
    script = f"""
from ingest.agent.queue import TelemetryQueue
queue = TelemetryQueue({str(tmp_path / "q.db")!r})
queue.enqueue({{"a": 0}})
import os; os.write(2, b"START\\n")
for number in range(20):
    ids = queue.enqueue_many([{{"a": number, "b": index}} for index in range(10)])
    queue.mark_sent(ids)
os.write(2, b"STOP\\n")
"""
    strace = ["strace", "-f", "-e", "trace=fsync,fdatasync,write", "-o", str(tmp_path / "trace")]
    try:
        subprocess.run([*strace, sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, timeout=60)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("strace is not usable here")
    trace = (tmp_path / "trace").read_text()
    assert trace.split("START")[1].split("STOP")[0].count("sync(") <= 2 * 20


@pytest.mark.slow
def test_large_queue_opens_fast_and_reads_only_the_limit(open_queue: OpenQueue) -> None:
    queue = open_queue(max_size=10**6, max_bytes=10**9)
    for start in range(0, 20_000, 1000):
        queue.enqueue_many([snapshot(start + index, text="x" * 5000) for index in range(1000)])
    queue.close()
    started = time.perf_counter()
    queue = open_queue(max_size=10**6, max_bytes=10**9)
    assert len(queue.dequeue(10)) == 10
    assert time.perf_counter() - started < 1.0
