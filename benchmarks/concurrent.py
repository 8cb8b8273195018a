"""`python -m benchmarks.concurrent [COUNT]`: a thousand queries of four kinds at the same time; prints one line.

All connections are opened first and all requests are sent together, so that they wait for the same web process.
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
BURST_TIMEOUT = 120.0  # seconds for all responses


@dataclass(frozen=True)
class BurstResult:
    """Responses to requests that were sent at the same time."""

    statuses: Counter[int]
    seconds: Sequence[float]  # duration of each response, ascending

    def percentile(self, part: float) -> float:
        return self.seconds[math.ceil(part * len(self.seconds)) - 1]

    @property
    def failed(self) -> int:
        return self.statuses.total() - self.statuses[200]


def format_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def build_batches() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (path, body) of batches: a day of one metric of some devices, every ten seconds."""
    start = int(time.time()) // 10 * 10 - 86_400
    for device in range(DEVICES):
        for first in range(0, 8640, 960):
            points = [
                {"timestamp": format_time(start + 10 * tick), "metric_name": "load", "value": device + tick % 7}
                for tick in range(first, first + 960)
            ]
            yield f"/devices/d{device}/telemetry/batch", {"data_points": points}


def build_queries(count: int, key: str) -> list[bytes]:
    """Return requests for latest, range, query and aggregated in turn."""
    now = time.time()
    start, end = format_time(now - 86_400), format_time(now)
    headers = [*dict(HEADERS, **{"X-Api-Key": key, "Connection": "close"}).items()]
    requests = []
    for number in range(count):
        device = f"{API}/devices/d{number % DEVICES}/metrics/load"
        query = {"devices": [f"d{number % DEVICES}"], "metrics": ["load"], "start_time": start, "end_time": end}
        average = json.dumps(query | {"aggregation": "avg", "interval": 300}).encode()
        pooled = f"metric_name=load&aggregation_type=avg&interval=3600&start_time={start}&end_time={end}"
        kinds = (
            request("GET", f"{device}/latest", headers=headers),
            request("GET", f"{device}/range?columns=true&max_points=1000", headers=headers),
            request("POST", f"{API}/query", average, headers),
            request("GET", f"{API}/aggregated?{pooled}", headers=headers),
        )
        requests.append(kinds[number % len(kinds)])
    return requests


def send_burst(port: int, requests: Sequence[bytes]) -> BurstResult:
    """Send all requests at the same time. Raises TimeoutError."""
    return asyncio.run(asyncio.wait_for(_send_burst(port, requests), BURST_TIMEOUT))


async def _send_burst(port: int, requests: Sequence[bytes]) -> BurstResult:
    connections = [await asyncio.open_connection("127.0.0.1", port, limit=2**22) for _ in requests]
    responses = await asyncio.gather(*(_send(*pair, data) for pair, data in zip(connections, requests, strict=True)))
    return BurstResult(Counter(status for status, _ in responses), sorted(seconds for _, seconds in responses))


async def _send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> tuple[int, float]:
    started = time.perf_counter()
    writer.write(data)
    response = await reader.read(-1)
    writer.close()
    return int(response.split(b" ", 2)[1]), time.perf_counter() - started


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    folder = Path(tempfile.mkdtemp(prefix="telemetry-bench-"))
    folder.chmod(0o755)
    site = Site(folder / "site")
    try:
        for path, body in build_batches():
            site.call("POST", API + path, body)
        site.settle()
        send_burst(site.port, build_queries(20, KEY))
        before = site.web_rss()
        result = send_burst(site.port, build_queries(count, KEY))
        growth = (site.web_rss() - before) / 2**20
    finally:
        site.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print(
        f"{count:,} concurrent queries: {result.failed} failed {dict(result.statuses)},"
        f" p50 {result.percentile(0.5):.2f} s, p95 {result.percentile(0.95):.2f} s, max {result.seconds[-1]:.2f} s;"
        f" web process {before / 2**20:.0f} MB before, {growth:+.0f} MB after"
    )


if __name__ == "__main__":
    main()
