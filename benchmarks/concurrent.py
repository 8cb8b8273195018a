"""`python -m benchmarks.concurrent`: a thousand questions at the same moment, of four kinds; one line.

Connections are made first and the questions sent together, so that all of them wait for the same web process.
"""

import asyncio
import json
import math
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.loadgen import request
from benchmarks.servers import HEADERS, KEY, Site

API = "/api/v1/telemetry"
DEVICES = 10
PATIENCE = 120.0  # seconds for all answers


@dataclass(frozen=True)
class Burst:
    """What questions that were asked at once were answered with."""

    statuses: Counter[int]
    seconds: Sequence[float]  # of each answer, ascending

    def percentile(self, part: float) -> float:
        return self.seconds[math.ceil(part * len(self.seconds)) - 1]

    @property
    def failed(self) -> int:
        return self.statuses.total() - self.statuses[200]


def stamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def day() -> Iterator[tuple[str, dict[str, Any]]]:
    """(path, body) of the batches that make a day of a metric of some devices, every ten seconds."""
    start = int(time.time()) // 10 * 10 - 86_400
    for device in range(DEVICES):
        for first in range(0, 8640, 960):
            points = [
                {"timestamp": stamp(start + 10 * tick), "metric_name": "load", "value": device + tick % 7}
                for tick in range(first, first + 960)
            ]
            yield f"/devices/d{device}/telemetry/batch", {"data_points": points}


def questions(count: int, key: str) -> list[bytes]:
    """Latest, range, query and aggregated in turn."""
    now = time.time()
    start, end = stamp(now - 86_400), stamp(now)
    headers = [*dict(HEADERS, **{"X-Api-Key": key, "Connection": "close"}).items()]
    found = []
    for number in range(count):
        device = f"{API}/devices/d{number % DEVICES}/metrics/load"
        asked = {"devices": [f"d{number % DEVICES}"], "metrics": ["load"], "start_time": start, "end_time": end}
        average = json.dumps(asked | {"aggregation": "avg", "interval": 300}).encode()
        pooled = f"metric_name=load&aggregation_type=avg&interval=3600&start_time={start}&end_time={end}"
        kinds = (
            request("GET", f"{device}/latest", headers=headers),
            request("GET", f"{device}/range?columns=true&max_points=1000", headers=headers),
            request("POST", f"{API}/query", average, headers),
            request("GET", f"{API}/aggregated?{pooled}", headers=headers),
        )
        found.append(kinds[number % len(kinds)])
    return found


def burst(port: int, asked: Sequence[bytes]) -> Burst:
    """Ask everything at once."""
    return asyncio.run(asyncio.wait_for(_burst(port, asked), PATIENCE))


async def _burst(port: int, asked: Sequence[bytes]) -> Burst:
    connections = [await asyncio.open_connection("127.0.0.1", port, limit=2**22) for _ in asked]
    answers = await asyncio.gather(*(_ask(*pair, one) for pair, one in zip(connections, asked, strict=True)))
    return Burst(Counter(status for status, _ in answers), sorted(seconds for _, seconds in answers))


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: bytes) -> tuple[int, float]:
    began = time.perf_counter()
    writer.write(asked)
    answer = await reader.read(-1)
    writer.close()
    return int(answer.split(b" ", 2)[1]), time.perf_counter() - began


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    folder = Path(tempfile.mkdtemp(prefix="telemetry-bench-"))
    folder.chmod(0o755)
    site = Site(folder / "site")
    try:
        for path, body in day():
            site.call("POST", API + path, body)
        site.settle()
        burst(site.port, questions(20, KEY))
        before = site.web_rss()
        found = burst(site.port, questions(count, KEY))
        grown = (site.web_rss() - before) / 2**20
    finally:
        site.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print(
        f"{count:,} questions at once: {found.failed} failed {dict(found.statuses)}, p50 {found.percentile(0.5):.2f} s,"
        f" p95 {found.percentile(0.95):.2f} s, last {found.seconds[-1]:.2f} s;"
        f" web process {before / 2**20:.0f} MB before, {grown:+.0f} MB after"
    )


if __name__ == "__main__":
    main()
