"""The disk queue with damaged files, foreign files and a full disk."""

import contextlib
import logging
import os
import random
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.agent.queue import DiskFull, TelemetryQueue
from tests.ingest.agent.conftest import ManualClock, OpenQueue, drain, snapshot
from tests.ingest.agent.test_queue import assert_balanced

FLIPS = int(os.environ.get("AGENT_TEST_FLIPS", "50"))


def fill(path: Path, clean: bool, count: int, rng: random.Random) -> list[int]:
    """Write a queue file and leave it as after a stop or a kill; return the numbers of the snapshots in it."""
    live = TelemetryQueue(path, clock=ManualClock())
    for start in range(0, count, 10):
        rows = range(start, min(count, start + 10))
        live.enqueue_many([snapshot(number, text="x" * rng.randrange(rng.choice([50, 800, 9000]))) for number in rows])
    sent = [item.id for item in live.dequeue(7)]
    live.mark_sent(sent)
    if clean:
        live.close()
    else:  # the copies of the files are what a kill leaves; closing moves the log into the file
        files = {file: file.read_bytes() for file in path.parent.iterdir() if file.name.startswith(path.name)}
        live.close()
        for file, content in files.items():
            file.write_bytes(content)
    return list(range(len(sent), count))


def damage(path: Path, rng: random.Random) -> str:
    """Flip one to 20 bytes of the file or its log, or cut it."""
    files = [file for file in (path, path.with_name(path.name + "-wal")) if file.exists() and file.stat().st_size]
    file = rng.choice(files)
    content = bytearray(file.read_bytes())
    if rng.random() < 0.2:
        del content[rng.randrange(len(content)) :]
        what = f"{file.name} cut to {len(content)}"
    else:
        area = rng.choice([100, 4096, len(content)])  # header and schema are small but matter most
        places = [rng.randrange(min(area, len(content))) for _ in range(rng.choice([1, 1, 3, 20]))]
        for place in places:
            content[place] ^= rng.randrange(1, 256)
        what = f"{file.name} flipped at {places}"
    file.write_bytes(content)
    return what


@pytest.mark.slow
def test_damaged_file_never_stops_the_queue_and_losses_are_counted(tmp_path: Path) -> None:
    for seed in range(FLIPS):
        rng = random.Random(seed)
        path = tmp_path / str(seed) / "queue.db"
        written = fill(path, rng.random() < 0.5, 60, rng)
        what = f"seed {seed}: {damage(path, rng)}"
        started = time.perf_counter()
        queue = TelemetryQueue(path, clock=ManualClock())
        queue.enqueue(snapshot(1000))
        assert time.perf_counter() - started < 5, what
        delivered = drain(queue)
        stats = queue.get_stats()
        assert delivered[-1] == 1000, what
        assert delivered == sorted(set(delivered)), what
        assert set(delivered[:-1]) <= set(written), what
        lost = stats["lost"] + stats["dropped"]["damaged"]
        assert len(delivered) - 1 + lost == len(written), (what, stats)
        assert_balanced(queue)
        queue.close()


def test_unreadable_file_is_set_aside_and_its_rows_are_salvaged(
    open_queue: OpenQueue, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    queue = open_queue()
    queue.enqueue_many([snapshot(number) for number in range(5)])
    queue.close()
    with open(tmp_path / "queue.db", "r+b") as file:
        file.write(b"\0" * 100)
    with caplog.at_level(logging.ERROR):
        queue = open_queue()
    assert "set aside as queue.db.corrupt-" in caplog.text
    assert "5 snapshots salvaged, 0 lost" in caplog.text
    assert list(tmp_path.glob("queue.db.corrupt-*"))
    assert drain(queue) == [0, 1, 2, 3, 4]


@pytest.mark.slow
@pytest.mark.parametrize("first_call", ["dequeue", "enqueue", "get_stats"])
def test_damage_found_while_running_is_repaired(open_queue: OpenQueue, tmp_path: Path, first_call: str) -> None:
    queue = open_queue(max_size=10_000)
    queue.enqueue_many([snapshot(number, text="x" * 1000) for number in range(3000)])
    queue._file.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    queue._file.connection.execute("PRAGMA cache_size = 0")
    with open(tmp_path / "queue.db", "r+b") as file:
        for page in range(1, 500):
            file.seek(page * 4096)
            file.write(b"\xff" * 100)
    if first_call == "enqueue":
        queue.enqueue(snapshot(3000))
    elif first_call == "get_stats":
        queue.get_stats()
    delivered = drain(queue)
    stats = queue.get_stats()
    assert 0 < len(delivered) < 3000
    assert len(delivered) + stats["lost"] + stats["dropped"]["damaged"] == (3001 if first_call == "enqueue" else 3000)
    assert stats["lost"] > 0


def test_damage_while_another_process_uses_the_file_is_an_error_until_the_next_start(
    open_queue: OpenQueue, tmp_path: Path
) -> None:
    queue, other = open_queue(max_size=5000), open_queue(max_size=5000)
    queue.enqueue_many([snapshot(number, text="x" * 1000) for number in range(100)])
    queue._file.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    queue._file.connection.execute("PRAGMA cache_size = 0")
    with open(tmp_path / "queue.db", "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 100)
    with pytest.raises(sqlite3.DatabaseError, match="malformed"):
        queue.dequeue(10)
    queue.close()
    other.close()
    assert drain(open_queue())


def test_deleted_file_is_reported_as_lost(open_queue: OpenQueue, tmp_path: Path) -> None:
    queue = open_queue()
    queue.enqueue_many([snapshot(number) for number in range(5)])
    queue.close()
    (tmp_path / "queue.db").unlink()
    queue = open_queue()
    assert (queue.get_stats()["lost"], queue.get_queue_size()) == (5, 0)
    assert queue.enqueue(snapshot(9)) == 6


@pytest.mark.parametrize("kind", ["foreign database", "text", "empty", "other version"])
def test_foreign_file_is_set_aside(open_queue: OpenQueue, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "queue.db"
    if kind == "foreign database":
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE telemetry_queue (id INTEGER PRIMARY KEY, payload TEXT)")
        connection.close()
    elif kind == "other version":
        queue = open_queue()
        queue.enqueue(snapshot(7))
        queue.close()
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA user_version = 9")
        connection.close()
    else:
        path.write_bytes(b"" if kind == "empty" else b"hello" * 1000)
    queue = open_queue()
    assert drain(queue) == ([7] if kind == "other version" else [])
    assert [file for file in tmp_path.glob("queue.db.corrupt-*") if not file.name.endswith("-wal")]


@pytest.mark.parametrize("stage", [".new", ".ready"])
def test_repair_that_was_interrupted_is_finished_at_the_next_start(
    open_queue: OpenQueue, tmp_path: Path, stage: str
) -> None:
    queue = open_queue()
    queue.enqueue(snapshot(1))
    queue.close()
    path = tmp_path / "queue.db"
    if stage == ".ready":  # complete, not yet in place
        path.rename(tmp_path / "queue.db.ready")
        path.write_bytes(b"damaged")
        (tmp_path / "queue.db-wal").write_bytes(b"damaged")
    else:
        (tmp_path / "queue.db.new").write_bytes(b"half")
    assert drain(open_queue()) == [1]
    assert not (tmp_path / f"queue.db{stage}").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill_disk(folder: Path) -> None:
    with open(folder / "other", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass


@pytest.mark.slow
def test_full_disk_recovers_without_hands(small_disk: Path) -> None:
    queue = TelemetryQueue(small_disk / "queue.db", max_size=100_000, clock=ManualClock())
    assert (small_disk / "queue.db.reserve").stat().st_size == 1024 * 1024
    for number in range(6000):  # three times what fits
        try:
            queue.enqueue(snapshot(number, text="x" * 1000))
        except DiskFull:
            continue
    stats = queue.get_stats()
    assert 500 < stats["queue_size"] < 6000
    assert stats["dropped"]["disk"] == 6000 - stats["queue_size"]
    assert not (small_disk / "queue.db.reserve").exists()
    delivered = drain(queue)
    assert delivered == list(range(6000 - len(delivered), 6000))
    assert_balanced(queue)
    queue.close()


@pytest.mark.slow
def test_snapshots_can_be_removed_from_a_disk_that_others_filled_to_the_last_byte(small_disk: Path) -> None:
    queue = TelemetryQueue(small_disk / "queue.db", clock=ManualClock())
    queue.enqueue_many([snapshot(number, text="x" * 1000) for number in range(500)])
    fill_disk(small_disk)
    assert len(drain(queue)) == 500
    queue.enqueue(snapshot(1000))
    (small_disk / "other").unlink()
    assert drain(queue) == [1000]
    assert queue.get_stats()["lost"] == 0
    queue.close()


@pytest.mark.slow
@pytest.mark.parametrize("damaged", [False, True])
def test_queue_opens_on_a_full_disk(small_disk: Path, damaged: bool) -> None:
    queue = TelemetryQueue(small_disk / "queue.db", clock=ManualClock())
    queue.enqueue_many([snapshot(number, text="x" * 1000) for number in range(900)])
    queue.close()
    if damaged:
        with open(small_disk / "queue.db", "r+b") as file:
            file.write(b"\0" * 100)
    fill_disk(small_disk)
    queue = TelemetryQueue(small_disk / "queue.db", clock=ManualClock())
    queue.enqueue(snapshot(1000))
    assert_balanced(queue)
    delivered = drain(queue)
    assert delivered[-1] == 1000
    assert len(delivered) > (300 if damaged else 890)
    queue.close()
