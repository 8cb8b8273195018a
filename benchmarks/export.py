"""`python -m benchmarks.export`: ten million numeric points as CSV, from the stream and from a background export.

One table: rows per second, and by how much the process that makes them grows. Generator, servers and the reader share
this machine.
"""

import argparse
import http.client
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psutil

from benchmarks import encoders
from benchmarks.loadgen import LoadGenerator
from benchmarks.servers import HEADERS, Site
from benchmarks.workload import KINDS, Workload

API = "/api/v1/telemetry"
READ_AT_ONCE = 1 << 20


@dataclass
class Grown:
    """How much larger a process was than at the beginning, at most."""

    idle: int
    most: int

    @property
    def megabytes(self) -> float:
        return (self.most - self.idle) / 2**20


@contextmanager
def growth(process: psutil.Process) -> Iterator[Grown]:
    idle = process.memory_info().rss
    grown, over = Grown(idle, idle), threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            grown.most = max(grown.most, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield grown
    finally:
        over.set()
        watcher.join()


def process(site: Site, mark: str) -> psutil.Process:
    return max((one for one in site.tree() if mark in " ".join(one.cmdline())), key=lambda one: one.memory_info().rss)


def streamed(site: Site, asked: dict[str, Any]) -> tuple[int, int]:
    """(rows, bytes) of the stream, read as fast as it comes."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
    connection.request("GET", f"{API}/export/csv?{urlencode(asked, doseq=True)}", headers=dict(HEADERS))
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    rows = size = 0
    while data := answer.read(READ_AT_ONCE):
        rows += data.count(b"\n")
        size += len(data)
    connection.close()
    return rows - 1, size


def made(site: Site, asked: dict[str, Any]) -> dict[str, Any]:
    """A background export, once it is done."""
    job = site.call("POST", f"{API}/export/jobs", asked)
    while job["status"] in ("queued", "running"):
        time.sleep(0.2)
        job = site.call("GET", f"{API}/export/jobs/{job['id']}")
    assert job["status"] == "done", job
    return dict(job)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.export", description=__doc__)
    parser.add_argument("--ticks", type=int, default=10_000, help="of 1,000 points each")
    parser.add_argument("--unmerged", action="store_true", help="as the points lie a minute after they came")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="telemetry-bench-"))
    folder.chmod(0o755)
    start = int(time.time()) // 10 * 10 - 10 * given.ticks
    load = Workload(devices=100, ticks=given.ticks, start=start)
    begin = datetime.fromtimestamp(start, UTC)
    asked = {
        "device_ids": load.names,
        "metric_names": list(KINDS),
        "start_time": begin.isoformat(),
        "end_time": (begin + timedelta(seconds=10 * given.ticks)).isoformat(),
    }
    rows: list[tuple[str, str]] = []
    try:
        site = Site(folder / "site")
        try:
            generator = LoadGenerator(folder)
            generator.run(site.port, generator.prepare("bulk", encoders.bulk(load, 1000, 4)), 4)
            if not given.unmerged:
                site.manage("merge", "--all")
            site.settle()
            for what, mark, run in (("stream", "uvicorn", stream), ("background", "worker", background)):
                with growth(process(site, mark)) as grown:
                    figure = run(site, asked, load.points)
                rows.append((f"{load.points:,} points, {what}", f"{figure}; memory +{grown.megabytes:.0f} MB"))
                print(*rows[-1], file=sys.stderr, flush=True)
        finally:
            site.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("| what | figure |\n|---|---|")
    for one in rows:
        print(f"| {one[0]} | {one[1]} |")


def stream(site: Site, asked: dict[str, Any], points: int) -> str:
    began = time.perf_counter()
    many, size = streamed(site, asked)
    assert many == points, many
    return _rate(many, size, time.perf_counter() - began)


def background(site: Site, asked: dict[str, Any], points: int) -> str:
    job = made(site, asked)
    assert job["rows"] == points, job
    took = datetime.fromisoformat(job["finished_at"]) - datetime.fromisoformat(job["started_at"])
    return _rate(job["rows"], job["bytes"], took.total_seconds())


def _rate(rows: int, size: int, seconds: float) -> str:
    return f"{rows / seconds:,.0f} rows/s, {size / seconds / 2**20:,.0f} MB/s"


if __name__ == "__main__":
    main()
