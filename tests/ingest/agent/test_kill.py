"""The agent's queue and sender, killed at random moments, lose nothing and store nothing twice."""

import os
import random
import subprocess
import sys
from ast import literal_eval
from pathlib import Path

import pytest

from tests.ingest.agent.conftest import RecordingSite

ROOT = Path(__file__).resolve().parents[3]
KILLS = int(os.environ.get("AGENT_TEST_KILLS", "10"))
OUTAGE = [(503, {}, b""), (200, {}, b"<html>"), (401, {}, b"{}"), (500, {}, b"{"), (429, {"Retry-After": "0"}, b"")]


def agent(path: Path, url: str, first: int, finish: bool) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.ingest.agent.killed_agent", str(path), url, str(first), str(int(finish))],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


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
        process = agent(path, recording_site.url, len(accepted) and accepted[-1] + 2, finish=False)
        assert process.stdout is not None
        wanted = rng.randrange(1, 120)
        lines = [process.stdout.readline() for _ in range(wanted)]
        process.kill()
        rest, errors = process.communicate(timeout=10)
        lines += [line for line in rest.splitlines(keepends=True) if line.endswith("\n")]
        assert "" not in lines, errors
        accepted += map(int, lines)
    process = agent(path, recording_site.url, 0, finish=True)
    output, errors = process.communicate(timeout=60)
    stats = literal_eval(output)
    stored = [value for (_, _, name), value in recording_site.stored.items() if name == "number"]
    assert set(accepted) <= set(stored), errors
    assert len(stored) == len(set(stored))
    # A snapshot whose number was not printed yet when the process was killed may be stored too.
    assert len(stored) - len(accepted) <= KILLS
    assert (stats["lost"], stats["dropped_total"], stats["queue_size"]) == (0, 0, 0)
    assert stats["sent"] == stats["written"] == len(stored)
