"""`make bench`: one table, each figure the median of three runs, every answer after an fsynced commit.

Generator and servers share this machine. Figures of machines differ; the ratio to InfluxDB, measured in the same run,
differs less.
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import encoders
from benchmarks.figures import calibration, median, say, table
from benchmarks.loadgen import LoadGenerator, request
from benchmarks.servers import HEADERS, InfluxDB, Site
from benchmarks.workload import KINDS, Workload

API = "/api/v1/telemetry"


class Bench:
    def __init__(self, folder: Path, runs: int, ticks: int) -> None:
        self.folder, self.runs = folder, runs
        self.generator = LoadGenerator(folder)
        start = int(time.time()) // 10 * 10 - 10 * ticks
        self.load = Workload(devices=100, ticks=ticks, start=start)

    def run(self, port: int, file: Path, connections: int, mode: str = "part") -> list[dict[str, Any]]:
        return [self.generator.run(port, file, connections, mode) for _ in range(self.runs)]

    def batches(self, site: Site) -> None:
        """Batches of a thousand; run by run in turn with InfluxDB where it is installed, for machines drift."""
        file = self.generator.prepare("bulk", encoders.bulk(self.load, 1000, 4))
        peers, found, cost = [], [], 0.0
        for number in range(self.runs):
            if InfluxDB.installed():
                peers.append(self.influx(number))
            began = site.cpu_seconds()
            found.append(self.generator.run(site.port, file, 4))
            cost += site.cpu_seconds() - began
        rates = [one["points_per_s"] for one in found]
        say("batches of 1,000, 4 connections", f"{median(rates):,.0f} points/s, p95 {p95(found)}")
        if peers:
            ratio = median(ours / theirs for ours, theirs in zip(rates, peers, strict=True))
            say(
                "InfluxDB 1.x, line protocol, the same points",
                f"{median(peers):,.0f} points/s: we do {ratio:.2f} × that",
            )
        cost *= 1e6 / (self.runs * self.load.points)
        say("the whole site's CPU for it, merging included", f"{cost:.2f} s a million points")

    def backfill(self, site: Site) -> None:
        """The same a month ago, in turn with new points: history is taken at the speed of what is new."""
        old = Workload(devices=100, ticks=self.load.ticks // 2, start=int(self.load.times[0]) - 30 * 86_400, seed=3)
        new = Workload(devices=100, ticks=old.ticks, start=int(self.load.times[0]), seed=4)
        files = [
            self.generator.prepare(name, encoders.bulk(load, 1000, 4)) for name, load in (("old", old), ("new", new))
        ]
        found = [[self.generator.run(site.port, file, 4)["points_per_s"] for file in files] for _ in range(self.runs)]
        rates, ratio = [rate for rate, _ in found], median(before / after for before, after in found)
        say("batches of 1,000 a month old", f"{median(rates):,.0f} points/s: {ratio:.2f} × new ones")

    def influx(self, number: int) -> float:
        """Points per second of InfluxDB, from empty."""
        file = self.generator.prepare("influx", encoders.line_protocol(self.load, 1000, 4))
        server = InfluxDB(self.folder / f"influx{number}")
        try:
            return float(self.generator.run(server.port, file, 4)["points_per_s"])
        finally:
            server.stop()

    def requests(self, site: Site) -> None:
        """Smaller requests, where what a request costs counts more than what a point costs."""
        found = self.run(site.port, self.generator.prepare("tens", encoders.bulk(self.load, 10, 16, most=20_000)), 16)
        say("batches of 10, 16 connections", f"{median(one['points_per_s'] for one in found):,.0f} points/s")
        found = self.run(site.port, self.generator.prepare("batch", encoders.batch(self.load, 1000, most=500)), 1)
        say("a batch of 1,000 from one client, p95", p95(found))
        found = self.run(
            site.port, self.generator.prepare("one", encoders.single(self.load, most=30_000)), 32, "shared"
        )
        rows = median(one["requests_per_s"] for one in found)
        say("single points, 32 connections", f"{rows:,.0f} requests/s, p95 {p95(found)}")

    def reads(self, site: Site) -> None:
        """Latest and a day of one series, alone and while 100,000 points a second come in."""
        day = Workload(devices=1, ticks=8640, start=int(time.time()) // 10 * 10 - 86_400, seed=2)
        day.names = ["day00000"]
        self.generator.run(site.port, self.generator.prepare("day", encoders.batch(day, 1000)), 1)
        writes = self.generator.prepare("paced", encoders.bulk(self.load, 1000, 1))
        for what, path, times in (("latest", "latest", 30), ("24 h of one series at 10 s", "range?columns=true", 10)):
            asked = [request("GET", f"{API}/devices/day00000/metrics/{kind}/{path}", headers=HEADERS) for kind in KINDS]
            file = self.generator.prepare("reads", [(0, 0, one) for one in asked * times])
            alone = p95(self.run(site.port, file, 1))
            with encoders.Paced(site.port, writes, points_per_second=100_000) as paced:
                busy = p95(self.run(site.port, file, 1))
            say(f"{what}, p95", f"{alone}; {busy} under {paced.rate:,.0f} points/s")


def p95(found: list[dict[str, Any]]) -> str:
    return f"{median(one['lat_ms']['p95'] for one in found):.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--ticks", type=int, default=1440, help="of 1,000 points each")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="telemetry-bench-"))
    folder.chmod(0o755)
    print(f"calibration {calibration():.1f} ms (a quiet fast core: about 20)", file=sys.stderr)
    bench = Bench(folder, given.runs, given.ticks)
    try:
        site = Site(folder / "site")
        try:
            site.settle()
            say("idle stack, memory", f"{site.pss() / 2**20:.0f} MB")
            bench.batches(site)
            bench.backfill(site)
            bench.requests(site)
            bench.reads(site)
            say("web process afterwards, memory", f"{site.web_rss() / 2**20:.0f} MB")
        finally:
            site.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    table("what", "figure")


if __name__ == "__main__":
    main()
