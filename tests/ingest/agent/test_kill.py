"""The agent's queue and sender, killed at random moments, lose nothing and store nothing twice."""

import os
import random
import subprocess
import sys
import time
from ast import literal_eval
from pathlib import Path

import pytest

from ingest.agent.clock_offset import ClockOffset
from ingest.agent.machine_clock import MachineClock
from ingest.agent.poster import TelemetryPoster
from ingest.agent.queue import TelemetryQueue
from ingest.agent.sender import Sender
from tests.ingest.agent.conftest import RecordingSite, snapshot

ROOT = Path(__file__).resolve().parents[3]
KILLS = int(os.environ.get("AGENT_TEST_KILLS", "10"))
OUTAGE_TIME = float(os.environ.get("AGENT_TEST_OUTAGE", "8"))  # seconds
OUTAGE = [(503, {}, b""), (200, {}, b"<html>"), (401, {}, b"{}"), (500, {}, b"{"), (429, {"Retry-After": "0"}, b"")]


def agent(path: Path, url: str, first: int, finish: bool, pause: float = 0.0) -> subprocess.Popen[str]:
    arguments = [str(path), url, str(first), str(int(finish)), str(pause)]
    command = [sys.executable, "-m", "tests.ingest.agent.killed_agent", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def check_delivery(site: RecordingSite, path: Path, accepted: list[int], kills: int = KILLS) -> None:
    """Send the rest of the queue, and check that each accepted snapshot is stored once."""
    output, _ = agent(path, site.url, 0, finish=True).communicate(timeout=60)
    stats = literal_eval(output)
    stored = [value for (_, _, name), value in site.stored.items() if name == "number"]
    assert set(accepted) <= set(stored)
    assert len(stored) == len(set(stored))
    # A snapshot whose number was not printed yet when the process was killed may be stored too.
    assert len(stored) - len(accepted) <= kills
    assert (stats["lost"], stats["dropped_total"], stats["queue_size"]) == (0, 0, 0)
    assert stats["sent"] == stats["written"] == len(stored)


@pytest.mark.slow
def test_accepted_snapshots_are_stored_once_after_kills_and_outages(
    recording_site: RecordingSite, tmp_path: Path
) -> None:
    rng = random.Random(8)
    path = tmp_path / "queue.db"
    accepted: list[int] = []
    for _ in range(KILLS):
        if rng.random() < 0.4:
            recording_site.answers.extend(rng.choices(OUTAGE, k=rng.randrange(1, 8)))
        with agent(path, recording_site.url, len(accepted) and accepted[-1] + 2, finish=False) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(rng.randrange(1, 120))]
            process.kill()
            lines += process.stdout.readlines()
        accepted += [int(line) for line in lines if line.endswith("\n")]
    check_delivery(recording_site, path, accepted)


@pytest.mark.slow
@pytest.mark.timeout(OUTAGE_TIME + 600)
def test_outage_with_kills_loses_nothing_and_stores_nothing_twice(
    recording_site: RecordingSite, tmp_path: Path
) -> None:
    rng = random.Random(9)
    path = tmp_path / "queue.db"
    accepted: list[int] = []
    recording_site.down_until = time.monotonic() + OUTAGE_TIME
    kills = 0
    while kills < KILLS or time.monotonic() < recording_site.down_until:
        first = len(accepted) and accepted[-1] + 2
        with agent(path, recording_site.url, first, finish=False, pause=0.01) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(rng.randrange(1, 2 + int(100 * OUTAGE_TIME / KILLS)))]
            process.kill()
            lines += process.stdout.readlines()
        accepted += [int(line) for line in lines if line.endswith("\n")]
        kills += 1
    assert accepted
    check_delivery(recording_site, path, accepted, kills)


@pytest.mark.slow
def test_50_restarts_send_no_snapshot_twice(recording_site: RecordingSite, tmp_path: Path) -> None:
    clock = MachineClock()
    for number in range(50):
        queue = TelemetryQueue(tmp_path / "queue.db", clock=clock)
        poster = TelemetryPoster(recording_site.url)
        sender = Sender(queue, poster, ClockOffset(queue, clock))
        if number % 5 == 0:  # the other starts find an empty or a partly sent queue
            queue.enqueue_many([snapshot(1000 * number + index) for index in range(600)])
        sender.step()
        poster.close()
        queue.close()
    counts = [count for (_, _, name), count in recording_site.received.items() if name == "number"]
    assert counts == [1] * 6000
