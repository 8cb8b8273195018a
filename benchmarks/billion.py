"""`make bench-billion`: what a site answers, and how fast, when it holds a billion points and when it holds a million.

The points are 10,000 series × 100,000 every 78 seconds (90 days), and a device of ten series every 10 seconds for a
day. The small site holds ten series × 100,000 and, for questions about a fleet, one metric of as many devices for two
days, since a day up to now touches two days of UTC. Every figure is the median of several runs over HTTP; the first
answer after a start is told beside it.
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

from benchmarks import encoders, peers
from benchmarks.figures import calibration, median, note, say, table
from benchmarks.filling import Fleet, fill
from benchmarks.loadgen import LoadGenerator, request
from benchmarks.servers import HEADERS, Site
from benchmarks.workload import KINDS, Workload
from telemetry_site.embedded.paths import DataFolder

API = "/api/v1/telemetry"
STEP = 78  # seconds; 100,000 of them are 90 days
DEVICES, TICKS = 1000, 100_000
DAY = 86_400


@dataclass(frozen=True, slots=True)
class Read:
    """A kind of question, asked of many different series."""

    name: str
    goal: float  # ms
    percentile: str
    paths: Sequence[str]

    def requests(self) -> list[tuple[int, int, bytes]]:
        return [(0, 0, request("GET", path, headers=HEADERS)) for path in self.paths]


@dataclass(frozen=True, slots=True)
class Content:
    """What a site is filled with."""

    long: Fleet  # many points of every series
    wide: Fleet  # days of a thousand devices
    fine: Fleet  # a day of one device, every 10 seconds

    def fleets(self) -> list[Fleet]:
        return list(dict.fromkeys((self.long, self.wide, self.fine)))

    def reads(self) -> list[Read]:
        rng = np.random.default_rng(7)
        devices = [self.long.device(number) for number in rng.integers(0, self.long.devices, 100)]
        some = [(device, KINDS[place % len(KINDS)]) for place, device in enumerate(devices)]
        long = [f"{API}/devices/{device}/metrics/{self.long.metric(kind)}" for device, kind in some]
        fine = [f"{API}/devices/{self.fine.device(0)}/metrics/{self.fine.metric(kind)}" for kind in KINDS]
        day = _span(self.wide.end - DAY, self.wide.end)
        fleet = f"{API}/aggregated?{day}&metric_name={self.wide.metric('cpu_pct')}&aggregation_type="
        return [
            Read("latest", 10, "p95", [f"{path}/latest" for path in long * 3]),
            Read("24 h of one series at 10 s", 20, "p95", [f"{path}/range?columns=true" for path in fine] * 10),
            Read("90 days of one series as a chart", 60, "p95", [f"{path}/range?{_chart()}" for path in long]),
            Read(peers.HOURLY, 250, "p50", [f"{fleet}avg&interval=3600"] * 10),
            Read(peers.POOLED, 250, "p50", [f"{fleet}p95&interval={DAY}"] * 10),
        ]


def _span(start: int, end: int) -> str:
    moments = [quote(datetime.fromtimestamp(second, UTC).isoformat()) for second in (start, end)]
    return f"start_time={moments[0]}&end_time={moments[1]}"


def _chart() -> str:
    return "time_range=90d&columns=true&max_points=2000"


def contents(points: int) -> list[Content]:
    """The small site's and the large one's."""
    end = int(time.time()) // STEP * STEP
    day = -(-DAY // STEP)
    fine = Fleet("fine", 1, DAY // 10, 10, end // 10 * 10, seed=2)
    small = Content(Fleet("long", 1, TICKS, STEP, end), Fleet("wide", DEVICES, 2 * day, STEP, end, KINDS[:1]), fine)
    large = Fleet("fleet", max(points // (TICKS * len(KINDS)), 1), TICKS, STEP, end)
    if large.devices < DEVICES:  # to try it out: all devices, fewer days
        large = Fleet("fleet", DEVICES, max(points // (DEVICES * len(KINDS)), day), STEP, end)
    return [small, Content(large, large, fine)]


class Bench:
    def __init__(self, folder: Path, runs: int) -> None:
        self.folder, self.runs = folder, runs
        self.generator = LoadGenerator(folder)

    def made(self, folder: Path, content: Content) -> None:
        """A site, filled."""
        with closing(Site(folder)) as site:
            site.settle()
            for fleet in content.fleets():
                took = fill(site.environment, fleet)
                say(f"{fleet.points:,} points filled in", f"{took:.0f} s: {fleet.points / took:,.0f} points/s")
            found = json.loads(site.manage("storage", "--json"))
            size = f"{found['bytes'] / 1e6:,.0f} MB, {found['bytes_per_point']} bytes a point"
            say(f"{found['points']:,} points, all tables, TOAST and indexes", size)

    def read(self, folder: Path, content: Content) -> dict[str, list[float]]:
        """By question: the first answer after a start, the median, and the median under writes (ms)."""
        with closing(Site(folder)) as site:
            site.settle()
            found = {read.name: [self._asked(site, read.requests()[:1], "p50", 1)] for read in content.reads()}
            for read in content.reads():
                found[read.name].append(self._asked(site, read.requests(), read.percentile, self.runs))
            start = int(time.time()) // 10 * 10 - 6000
            writes = encoders.bulk(Workload(devices=100, ticks=600, start=start), 1000, 1)
            file = self.generator.prepare("paced", writes)
            for read in content.reads():
                with encoders.Paced(site.port, file, points_per_second=100_000) as paced:
                    time.sleep(2)  # until merging has begun
                    found[read.name].append(self._asked(site, read.requests(), read.percentile, self.runs))
                note(f"{read.name}: {paced.rate:,.0f} points/s meanwhile")
            return found

    def _asked(self, site: Site, requests: list[tuple[int, int, bytes]], percentile: str, runs: int) -> float:
        file = self.generator.prepare("reads", requests)
        return median(self.generator.run(site.port, file, 1)["lat_ms"][percentile] for _ in range(runs))

    def peers(self, folder: Path, content: Content) -> dict[str, dict[str, Sequence[float]]]:
        with closing(Site(folder)):
            database = DataFolder(folder).database
            return peers.asked(self.folder / "peers", self.generator, database, content.wide, self.runs)


def run(folder: Path, points: int, runs: int) -> None:
    bench, found, sites = Bench(folder, runs), [], contents(points)
    for name, content in zip(("small", "large"), sites, strict=True):
        bench.made(folder / name, content)
        found.append(bench.read(folder / name, content))
    others = bench.peers(folder / "large", sites[1])
    table("what", "figure")
    for read in sites[1].reads():
        (_, before, _), (first, after, busy) = (one[read.name] for one in found)
        theirs = (others.get(name, {}).get(read.name) for name in peers.PEERS)
        say(
            f"{read.name}, {read.percentile}",
            f"< {read.goal:g}",
            f"{before:.1f}",
            f"{after:.1f} ({after / before:.2f} ×)",
            f"{first:.1f}",
            f"{busy:.1f} ({busy / after:.2f} ×)",
            *("" if one is None else f"{one[1]:.1f}; {one[0]:.1f}" for one in theirs),
        )
    here = ("a million points", f"{sites[1].long.points:,} points", "first answer", "under 100,000 points/s")
    table("ms", "goal", *here, *(f"{name}; its first" for name in peers.PEERS))


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.billion", description=__doc__)
    parser.add_argument("--points", type=int, default=10**9)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="telemetry-billion-"))
    folder.chmod(0o755)
    print(f"calibration {calibration():.1f} ms (a quiet fast core: about 20)", file=sys.stderr)
    try:
        run(folder, given.points, given.runs)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
