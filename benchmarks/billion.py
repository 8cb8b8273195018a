"""`make bench-billion`: reads from a site with a billion points compared with a site with a million.

The large site holds 10,000 series with 100,000 points at 78 seconds (90 days), and a device with ten series at 10
seconds for a day. The small site holds ten series with 100,000 points and, for queries over many devices, one metric of
as many devices for two days, because the last 24 hours overlap two days of UTC. Each value is the median of several
runs over HTTP; the first response after a start is listed separately.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import numpy as np

from benchmarks import encoders, other_databases
from benchmarks.fill_storage import Fleet, fill
from benchmarks.loadgen import LoadGenerator, request
from benchmarks.report import add_row, log_progress, measure_calibration, median, print_table
from benchmarks.servers import HEADERS, Site
from benchmarks.workload import KINDS, Workload
from telemetry_site.embedded.paths import DataFolder

API = "/api/v1/telemetry"
STEP = 78  # seconds; 100,000 intervals are 90 days
DEVICES, TICKS = 1000, 100_000
DAY = 86_400


@dataclass(frozen=True, slots=True)
class ReadQuery:
    """Query that is sent for many different series."""

    name: str
    required: float  # ms
    percentile: str
    paths: Sequence[str]

    def requests(self) -> list[tuple[int, int, bytes]]:
        return [(0, 0, request("GET", path, headers=HEADERS)) for path in self.paths]


@dataclass(frozen=True, slots=True)
class SiteContent:
    """Points that a site is filled with."""

    long: Fleet  # many points per series
    wide: Fleet  # one or two days of a thousand devices
    fine: Fleet  # one day of one device, every 10 seconds

    def fleets(self) -> list[Fleet]:
        return list(dict.fromkeys((self.long, self.wide, self.fine)))

    def reads(self) -> list[ReadQuery]:
        rng = np.random.default_rng(7)
        devices = [self.long.device(number) for number in rng.integers(0, self.long.devices, 100)]
        series = [(device, KINDS[index % len(KINDS)]) for index, device in enumerate(devices)]
        long = [f"{API}/devices/{device}/metrics/{self.long.metric(kind)}" for device, kind in series]
        fine = [f"{API}/devices/{self.fine.device(0)}/metrics/{self.fine.metric(kind)}" for kind in KINDS]
        day = _time_range(self.wide.end - DAY, self.wide.end)
        fleet = f"{API}/aggregated?{day}&metric_name={self.wide.metric('cpu_pct')}&aggregation_type="
        return [
            ReadQuery("latest", 10, "p95", [f"{path}/latest" for path in long * 3]),
            ReadQuery("24 h of one series at 10 s", 20, "p95", [f"{path}/range?columns=true" for path in fine] * 10),
            ReadQuery("90 days of one series as a chart", 60, "p95", [f"{path}/range?{_chart()}" for path in long]),
            ReadQuery(other_databases.HOURLY, 250, "p50", [f"{fleet}avg&interval=3600"] * 10),
            ReadQuery(other_databases.POOLED, 250, "p50", [f"{fleet}p95&interval={DAY}"] * 10),
        ]


def _time_range(start: int, end: int) -> str:
    times = [quote(datetime.fromtimestamp(second, UTC).isoformat()) for second in (start, end)]
    return f"start_time={times[0]}&end_time={times[1]}"


def _chart() -> str:
    return "time_range=90d&columns=true&max_points=2000"


def build_contents(points: int) -> list[SiteContent]:
    """Return the contents of the small and of the large site."""
    end = int(time.time()) // STEP * STEP
    day = -(-DAY // STEP)
    fine = Fleet("fine", 1, DAY // 10, 10, end // 10 * 10, seed=2)
    small = SiteContent(Fleet("long", 1, TICKS, STEP, end), Fleet("wide", DEVICES, 2 * day, STEP, end, KINDS[:1]), fine)
    large = Fleet("fleet", max(points // (TICKS * len(KINDS)), 1), TICKS, STEP, end)
    if large.devices < DEVICES:  # trial run: all devices, fewer days
        large = Fleet("fleet", DEVICES, max(points // (DEVICES * len(KINDS)), day), STEP, end)
    return [small, SiteContent(large, large, fine)]


class BillionBenchmark:
    def __init__(self, folder: Path, runs: int) -> None:
        self.folder, self.runs = folder, runs
        self.generator = LoadGenerator(folder)

    def fill_site(self, folder: Path, content: SiteContent) -> None:
        """Start a site and fill it."""
        with closing(Site(folder)) as site:
            site.settle()
            for fleet in content.fleets():
                seconds = fill(site.environment, fleet)
                add_row(
                    f"fill with {fleet.points:,} points", f"{seconds:.0f} s: {fleet.points / seconds:,.0f} points/s"
                )
            storage = json.loads(site.manage("storage", "--json"))
            size = f"{storage['bytes'] / 1e6:,.0f} MB, {storage['bytes_per_point']} bytes per point"
            add_row(f"{storage['points']:,} points: tables, TOAST and indexes", size)

    def read(self, folder: Path, content: SiteContent) -> dict[str, list[float]]:
        """Return by query: first response after a start, median, and median during writes (ms)."""
        with closing(Site(folder)) as site:
            site.settle()
            results = {read.name: [self._measure(site, read.requests()[:1], "p50", 1)] for read in content.reads()}
            for read in content.reads():
                results[read.name].append(self._measure(site, read.requests(), read.percentile, self.runs))
            start = int(time.time()) // 10 * 10 - 6000
            writes = encoders.bulk(Workload(devices=100, ticks=600, start=start), 1000, 1)
            file = self.generator.prepare("paced", writes)
            for read in content.reads():
                with encoders.PacedWriter(site.port, file, points_per_second=100_000) as paced:
                    time.sleep(2)  # until merging starts
                    results[read.name].append(self._measure(site, read.requests(), read.percentile, self.runs))
                log_progress(f"{read.name}: {paced.rate:,.0f} points/s written meanwhile")
            return results

    def _measure(self, site: Site, requests: list[tuple[int, int, bytes]], percentile: str, runs: int) -> float:
        file = self.generator.prepare("reads", requests)
        return median(self.generator.run(site.port, file, 1)["lat_ms"][percentile] for _ in range(runs))

    def measure_others(self, folder: Path, content: SiteContent) -> dict[str, dict[str, Sequence[float]]]:
        with closing(Site(folder)):
            database = DataFolder(folder).database
            return other_databases.measure(self.folder / "others", self.generator, database, content.wide, self.runs)


def run(folder: Path, points: int, runs: int) -> None:
    benchmark, results, contents = BillionBenchmark(folder, runs), [], build_contents(points)
    for name, content in zip(("small", "large"), contents, strict=True):
        benchmark.fill_site(folder / name, content)
        results.append(benchmark.read(folder / name, content))
    others = benchmark.measure_others(folder / "large", contents[1])
    print_table("measurement", "result")
    for read in contents[1].reads():
        (_, small, _), (first, large, busy) = (result[read.name] for result in results)
        other_results = (others.get(name, {}).get(read.name) for name in other_databases.DATABASES)
        add_row(
            f"{read.name}, {read.percentile}",
            f"< {read.required:g}",
            f"{small:.1f}",
            f"{large:.1f} ({large / small:.2f} ×)",
            f"{first:.1f}",
            f"{busy:.1f} ({busy / large:.2f} ×)",
            *("" if result is None else f"{result[1]:.1f}; {result[0]:.1f}" for result in other_results),
        )
    site = ("a million points", f"{contents[1].long.points:,} points", "first response", "during 100,000 points/s")
    print_table("milliseconds", "required", *site, *(f"{name}; first response" for name in other_databases.DATABASES))


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.billion", description=__doc__)
    parser.add_argument("--points", type=int, default=10**9)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="telemetry-billion-"))
    folder.chmod(0o755)
    print(f"calibration {measure_calibration():.1f} ms (about 20 on an idle fast core)", file=sys.stderr)
    try:
        run(folder, arguments.points, arguments.runs)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
