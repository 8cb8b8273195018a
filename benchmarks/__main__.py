"""`make bench`: ingestion and reads over HTTP.

Each value is the median of three runs; every write is fsynced before the response. Load generator and servers share the
machine. Absolute values differ between machines; the ratio to InfluxDB, measured in the same run, differs less.
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import encoders
from benchmarks.loadgen import LoadGenerator, request
from benchmarks.report import add_row, measure_calibration, median, print_table
from benchmarks.servers import HEADERS, InfluxDB, Site
from benchmarks.workload import KINDS, Workload

API = "/api/v1/telemetry"


class IngestBenchmark:
    def __init__(self, folder: Path, runs: int, ticks: int) -> None:
        self.folder, self.runs = folder, runs
        self.generator = LoadGenerator(folder)
        start = int(time.time()) // 10 * 10 - 10 * ticks
        self.load = Workload(devices=100, ticks=ticks, start=start)

    def run(self, port: int, file: Path, connections: int, mode: str = "part") -> list[dict[str, Any]]:
        return [self.generator.run(port, file, connections, mode) for _ in range(self.runs)]

    def batches(self, site: Site) -> None:
        """Measure batches of 1,000 points, alternating with InfluxDB if it is installed.

        Runs alternate because the speed of a machine changes over time.
        """
        file = self.generator.prepare("bulk", encoders.bulk(self.load, 1000, 4))
        influx_rates, results, cpu_seconds = [], [], 0.0
        for run in range(self.runs):
            if InfluxDB.installed():
                influx_rates.append(self.influx(run))
            started = site.cpu_seconds()
            results.append(self.generator.run(site.port, file, 4))
            cpu_seconds += site.cpu_seconds() - started
        rates = [result["points_per_s"] for result in results]
        add_row("batches of 1,000, 4 connections", f"{median(rates):,.0f} points/s, p95 {p95(results)}")
        if influx_rates:
            ratio = median(ours / theirs for ours, theirs in zip(rates, influx_rates, strict=True))
            add_row(
                "InfluxDB 1.x, line protocol, same points",
                f"{median(influx_rates):,.0f} points/s; the site is {ratio:.2f} × as fast",
            )
        cpu_seconds *= 1e6 / (self.runs * self.load.points)
        add_row("CPU time of the site, merging included", f"{cpu_seconds:.2f} s per million points")

    def backfill(self, site: Site) -> None:
        """Measure batches that are a month old, alternating with new points."""
        old = Workload(devices=100, ticks=self.load.ticks // 2, start=int(self.load.times[0]) - 30 * 86_400, seed=3)
        new = Workload(devices=100, ticks=old.ticks, start=int(self.load.times[0]), seed=4)
        files = [
            self.generator.prepare(name, encoders.bulk(load, 1000, 4)) for name, load in (("old", old), ("new", new))
        ]
        results = [[self.generator.run(site.port, file, 4)["points_per_s"] for file in files] for _ in range(self.runs)]
        rates, ratio = [rate for rate, _ in results], median(before / after for before, after in results)
        add_row("batches of 1,000 a month old", f"{median(rates):,.0f} points/s; {ratio:.2f} × new points")

    def influx(self, number: int) -> float:
        """Return the points per second of an empty InfluxDB."""
        file = self.generator.prepare("influx", encoders.line_protocol(self.load, 1000, 4))
        server = InfluxDB(self.folder / f"influx{number}")
        try:
            return float(self.generator.run(server.port, file, 4)["points_per_s"])
        finally:
            server.stop()

    def requests(self, site: Site) -> None:
        """Measure small requests, whose cost per request exceeds their cost per point."""
        results = self.run(
            site.port, self.generator.prepare("tens", encoders.bulk(self.load, 10, 16, limit=20_000)), 16
        )
        add_row(
            "batches of 10, 16 connections", f"{median(result['points_per_s'] for result in results):,.0f} points/s"
        )
        results = self.run(site.port, self.generator.prepare("batch", encoders.batch(self.load, 1000, limit=500)), 1)
        add_row("batch of 1,000, 1 connection, p95", p95(results))
        results = self.run(
            site.port, self.generator.prepare("one", encoders.single(self.load, limit=30_000)), 32, "shared"
        )
        rate = median(result["requests_per_s"] for result in results)
        add_row("single points, 32 connections", f"{rate:,.0f} requests/s, p95 {p95(results)}")

    def reads(self, site: Site) -> None:
        """Measure reads of one series, alone and during 100,000 points/s of writes."""
        day = Workload(devices=1, ticks=8640, start=int(time.time()) // 10 * 10 - 86_400, seed=2)
        day.names = ["day00000"]
        self.generator.run(site.port, self.generator.prepare("day", encoders.batch(day, 1000)), 1)
        writes = self.generator.prepare("paced", encoders.bulk(self.load, 1000, 1))
        for name, path, repeats in (("latest", "latest", 30), ("24 h of one series at 10 s", "range?columns=true", 10)):
            requests = [
                request("GET", f"{API}/devices/day00000/metrics/{kind}/{path}", headers=HEADERS) for kind in KINDS
            ]
            file = self.generator.prepare("reads", [(0, 0, data) for data in requests * repeats])
            idle = p95(self.run(site.port, file, 1))
            with encoders.PacedWriter(site.port, writes, points_per_second=100_000) as paced:
                busy = p95(self.run(site.port, file, 1))
            add_row(f"{name}, p95", f"{idle}; {busy} during {paced.rate:,.0f} points/s of writes")


def p95(results: list[dict[str, Any]]) -> str:
    return f"{median(result['lat_ms']['p95'] for result in results):.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--ticks", type=int, default=1440, help="ticks of 1,000 points each")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="telemetry-bench-"))
    folder.chmod(0o755)
    print(f"calibration {measure_calibration():.1f} ms (about 20 on an idle fast core)", file=sys.stderr)
    benchmark = IngestBenchmark(folder, arguments.runs, arguments.ticks)
    try:
        site = Site(folder / "site")
        try:
            site.settle()
            add_row("memory of the idle site", f"{site.pss() / 2**20:.0f} MB")
            benchmark.batches(site)
            benchmark.backfill(site)
            benchmark.requests(site)
            benchmark.reads(site)
            add_row("memory of the web process at the end", f"{site.web_rss() / 2**20:.0f} MB")
        finally:
            site.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print_table("measurement", "result")


if __name__ == "__main__":
    main()
