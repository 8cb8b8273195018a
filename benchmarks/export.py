"""`python -m benchmarks.export`: ten million numeric points as CSV, streamed and as a background export.

Reports rows per second and the memory growth of the exporting process. Load generator, servers and reader share the
machine.
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
READ_SIZE = 1 << 20


@dataclass
class MemoryGrowth:
    """Memory of a process in bytes: at the start, and the maximum since."""

    idle: int
    peak: int

    @property
    def megabytes(self) -> float:
        return (self.peak - self.idle) / 2**20


@contextmanager
def measure_growth(process: psutil.Process) -> Iterator[MemoryGrowth]:
    idle = process.memory_info().rss
    growth, stopped = MemoryGrowth(idle, idle), threading.Event()

    def watch() -> None:
        while not stopped.wait(0.02):
            growth.peak = max(growth.peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield growth
    finally:
        stopped.set()
        watcher.join()


def find_process(site: Site, mark: str) -> psutil.Process:
    return max(
        (child for child in site.tree() if mark in " ".join(child.cmdline())), key=lambda child: child.memory_info().rss
    )


def read_stream(site: Site, parameters: dict[str, Any]) -> tuple[int, int]:
    """Read the stream to its end. Returns (rows, bytes)."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
    connection.request("GET", f"{API}/export/csv?{urlencode(parameters, doseq=True)}", headers=dict(HEADERS))
    response = connection.getresponse()
    assert response.status == 200, response.read()
    rows = size = 0
    while data := response.read(READ_SIZE):
        rows += data.count(b"\n")
        size += len(data)
    connection.close()
    return rows - 1, size


def run_export_job(site: Site, parameters: dict[str, Any]) -> dict[str, Any]:
    """Run a background export and wait until it is done."""
    job = site.call("POST", f"{API}/export/jobs", parameters)
    while job["status"] in ("queued", "running"):
        time.sleep(0.2)
        job = site.call("GET", f"{API}/export/jobs/{job['id']}")
    assert job["status"] == "done", job
    return dict(job)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.export", description=__doc__)
    parser.add_argument("--ticks", type=int, default=10_000, help="ticks of 1,000 points each")
    parser.add_argument("--unmerged", action="store_true", help="export before the points are merged")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="telemetry-bench-"))
    folder.chmod(0o755)
    start = int(time.time()) // 10 * 10 - 10 * arguments.ticks
    load = Workload(devices=100, ticks=arguments.ticks, start=start)
    begin = datetime.fromtimestamp(start, UTC)
    parameters = {
        "device_ids": load.names,
        "metric_names": list(KINDS),
        "start_time": begin.isoformat(),
        "end_time": (begin + timedelta(seconds=10 * arguments.ticks)).isoformat(),
    }
    rows: list[tuple[str, str]] = []
    try:
        site = Site(folder / "site")
        try:
            generator = LoadGenerator(folder)
            generator.run(site.port, generator.prepare("bulk", encoders.bulk(load, 1000, 4)), 4)
            if not arguments.unmerged:
                site.manage("merge", "--all")
            site.settle()
            for name, mark, run in (
                ("stream", "uvicorn", measure_stream),
                ("background", "worker", measure_background),
            ):
                with measure_growth(find_process(site, mark)) as growth:
                    result = run(site, parameters, load.points)
                rows.append((f"{load.points:,} points, {name}", f"{result}; memory +{growth.megabytes:.0f} MB"))
                print(*rows[-1], file=sys.stderr, flush=True)
        finally:
            site.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("| measurement | result |\n|---|---|")
    for name, result in rows:
        print(f"| {name} | {result} |")


def measure_stream(site: Site, parameters: dict[str, Any], points: int) -> str:
    began = time.perf_counter()
    rows, size = read_stream(site, parameters)
    assert rows == points, rows
    return _format_rate(rows, size, time.perf_counter() - began)


def measure_background(site: Site, parameters: dict[str, Any], points: int) -> str:
    job = run_export_job(site, parameters)
    assert job["rows"] == points, job
    took = datetime.fromisoformat(job["finished_at"]) - datetime.fromisoformat(job["started_at"])
    return _format_rate(job["rows"], job["bytes"], took.total_seconds())


def _format_rate(rows: int, size: int, seconds: float) -> str:
    return f"{rows / seconds:,.0f} rows/s, {size / seconds / 2**20:,.0f} MB/s"


if __name__ == "__main__":
    main()
