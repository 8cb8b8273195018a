"""Memory, time and CPU of the agent: with a large queue, after a day without the site, and while it only measures."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from ingest.agent.build_zipapp import write
from ingest.agent.queue import TelemetryQueue
from tests.ingest.agent.conftest import RecordingSite, snapshot
from tests.ingest.agent.test_agent import wait_until, write_config
from tests.ingest.test_snapshot import FLAT

QUEUE_MB = int(os.environ.get("AGENT_TEST_QUEUE_MB", "60"))
MEASURED_SECONDS = 12
LOCAL_OFF = "websocket_port = 0\nhttp_port = 0\nstatsd_port = 0\n"
pytestmark = pytest.mark.slow


@contextmanager
def running(tmp_path: Path, site: RecordingSite, options: str = "") -> Iterator[psutil.Process]:
    """Run the zipapp with the queue of the test."""
    write(tmp_path)
    config = write_config(tmp_path, site.url, LOCAL_OFF + options)
    process = subprocess.Popen([sys.executable, str(tmp_path / "agent.pyz"), "run", "--config", str(config)])
    try:
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def peak_until(process: psutil.Process, condition: Callable[[], object], seconds: float) -> float:
    """Return the largest resident memory in MB until a condition is true."""
    peak = 0.0

    def observed() -> object:
        nonlocal peak
        peak = max(peak, process.memory_info().rss / 1e6)
        return condition()

    wait_until(observed, seconds)
    return peak


def test_large_queue_is_streamed_from_a_start_within_seconds(recording_site: RecordingSite, tmp_path: Path) -> None:
    (tmp_path / "queue").mkdir()
    queue = TelemetryQueue(tmp_path / "queue" / "queue.db", max_size=10**7, max_bytes=10**10)
    text = "x" * 20_000
    for number in range(0, QUEUE_MB * 50, 500):
        queue.enqueue_many([snapshot(index, text=text) for index in range(number, number + 500)])
    queue.close()
    started = time.monotonic()
    with running(tmp_path, recording_site, "max_size = 10000000\nmax_bytes = 10000000000\n") as process:
        peak = peak_until(process, lambda: recording_site.stored, 10)
        first = time.monotonic() - started
        sent = len(recording_site.requests)
        peak = max(peak, peak_until(process, lambda: len(recording_site.requests) > sent + 100, 60))
    print(f"\n{QUEUE_MB} MB queued: first delivery after {first:.1f} s, {peak:.0f} MB")
    assert first < 10
    assert peak < 40


def test_day_of_snapshots_is_caught_up_within_a_minute(recording_site: RecordingSite, tmp_path: Path) -> None:
    (tmp_path / "queue").mkdir()
    queue = TelemetryQueue(tmp_path / "queue" / "queue.db", max_size=10_000)
    fields = {name: value for name, value in FLAT.items() if name not in ("node_id", "timestamp")}
    for number in range(0, 8640, 864):
        queue.enqueue_many([snapshot(10 * index, **fields) for index in range(number, number + 864)])
    queue.close()
    started = time.monotonic()
    with running(tmp_path, recording_site) as process:

        def delivered() -> int:
            return sum(1 for _, _, name in list(recording_site.stored) if name == "number")

        peak = peak_until(process, lambda: delivered() == 8640, 60)
    print(f"\n8,640 snapshots in {time.monotonic() - started:.1f} s, {peak:.0f} MB")
    assert peak < 40


def test_measuring_takes_little_memory_and_cpu(recording_site: RecordingSite, tmp_path: Path) -> None:
    with running(tmp_path, recording_site) as process:  # a snapshot each second
        wait_until(lambda: recording_site.stored)
        before, count = process.cpu_times(), len(recording_site.requests)
        time.sleep(MEASURED_SECONDS)
        after, count = process.cpu_times(), len(recording_site.requests) - count
        seconds = (after.user + after.system - before.user - before.system) / count
        memory = process.memory_info().rss / 1e6
    print(f"\n{seconds * 1e3:.1f} ms of CPU for each snapshot: {10 * seconds:.2f} % at 10 s; {memory:.1f} MB")
    assert seconds < 0.1  # 1 % at a snapshot every ten seconds
    assert memory < 30
