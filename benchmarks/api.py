"""`make bench-api`: the PRD's response times on a large site: 100,000 devices, a million series, 100 million points.

Every row of the PRD's table of endpoints that is built, and what a large fleet adds to it: 95 of 100 answers over HTTP
on one connection, each about another device, beside the time that the document allows.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from benchmarks.figures import calibration, median, note, say, table
from benchmarks.filling import Fleet, fill
from benchmarks.loadgen import LoadGenerator, request
from benchmarks.servers import HEADERS, Site
from benchmarks.workload import KINDS

API = "/api/v1/telemetry"
STEP, TICKS = 900, 100  # seconds; a little more than a day
DEFINITIONS = 1000
ASKED = 100  # different devices


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A row of the table: requests of one kind, and the milliseconds that it may take."""

    name: str
    goal: float
    method: str
    paths: Sequence[str]
    bodies: Sequence[Any] = ()

    def requests(self) -> Iterator[tuple[int, int, bytes]]:
        for number, path in enumerate(self.paths):
            body = json.dumps(self.bodies[number]).encode() if self.bodies else b""
            yield 0, 0, request(self.method, path, body, HEADERS)


def endpoints(fleet: Fleet, rng: np.random.Generator) -> list[Endpoint]:
    devices = [fleet.device(number) for number in rng.integers(0, fleet.devices, ASKED).tolist()]
    metric = fleet.metric(KINDS[0])
    now, end = datetime.now(UTC).isoformat(), datetime.fromtimestamp(fleet.end, UTC).isoformat()
    start = datetime.fromtimestamp(fleet.end - 7 * 86_400, UTC).isoformat()
    span = f"start_time={quote(start)}&end_time={quote(end)}"
    points = [{"timestamp": now, "metric_name": fleet.metric(kind), "value": 1.5} for kind in KINDS]
    thousand = [point | {"metric_name": f"{fleet.name}_more{number}"} for number, point in enumerate(points * 100)]
    some = [devices[at : at + 10] for at in range(0, ASKED, 10)]
    week = {"metrics": [metric], "start_time": start, "end_time": end}
    names = [f"bench_{number}" for number in range(ASKED)]

    def of(template: str) -> list[str]:
        return [f"{API}/{template.format(device)}" for device in devices]

    return [
        Endpoint("single data point", 100, "POST", of("devices/{}/telemetry"), [points[0]] * ASKED),
        Endpoint(
            "batch of 1,000", 500, "POST", of("devices/{}/telemetry/batch")[:20], [{"data_points": thousand}] * 20
        ),
        Endpoint(
            "bulk, 10 devices × 10 points", 1000, "POST", [f"{API}/bulk"] * 10, [dict.fromkeys(s, points) for s in some]
        ),
        Endpoint(
            "create a metric definition", 100, "POST", [f"{API}/metrics"] * ASKED, [_definition(n) for n in names]
        ),
        Endpoint("list metric definitions", 100, "GET", [f"{API}/metrics"] * ASKED),
        Endpoint("list, filtered, the tenth page", 100, "GET", [f"{API}/metrics?data_type=numeric&offset=900"] * ASKED),
        Endpoint("get a metric definition", 50, "GET", [f"{API}/metrics/{name}" for name in names]),
        Endpoint("delete a metric definition", 50, "DELETE", [f"{API}/metrics/{name}" for name in names]),
        Endpoint(
            "query, a week of one device",
            500,
            "POST",
            [f"{API}/query"] * ASKED,
            [week | {"devices": [d]} for d in devices],
        ),
        Endpoint("latest value", 50, "GET", of(f"devices/{{}}/metrics/{metric}/latest")),
        Endpoint("metrics of a device", 100, "GET", of("devices/{}/metrics")),
        Endpoint("range, 24 h", 200, "GET", of(f"devices/{{}}/metrics/{metric}/range")),
        Endpoint(
            "aggregated, one device",
            300,
            "GET",
            of(f"aggregated?device_id={{}}&metric_name={metric}&aggregation_type=avg&interval=3600&{span}"),
        ),
        Endpoint("statistics of a device", 200, "GET", of("devices/{}/stats")),
        Endpoint("statistics of the service", 300, "GET", [f"{API}/stats"] * ASKED),
        Endpoint("health", 20, "GET", ["/health"] * ASKED),
        Endpoint("detailed health", 50, "GET", ["/health/detailed"] * ASKED),
        Endpoint("list devices", 100, "GET", [f"{API}/devices"] * ASKED),
        Endpoint("list devices, searched", 100, "GET", of("devices?search={}")),
        Endpoint("list devices of a group", 100, "GET", [f"{API}/devices?group=bench"] * ASKED),
        Endpoint("get a device", 50, "GET", of("devices/{}")),
        Endpoint("list device groups", 100, "GET", [f"{API}/groups"] * ASKED),
        Endpoint(
            "export of one device, a day", 500, "GET", of(f"export/csv?device_ids={{}}&metric_names={metric}&{span}")
        ),
    ]


def _definition(name: str) -> dict[str, Any]:
    return {"name": name, "data_type": "numeric", "min_value": 0, "max_value": 100}


def furnished(site: Site, fleet: Fleet) -> None:
    """Definitions, and a group of 10,000 devices."""
    for number in range(DEFINITIONS):
        site.call("POST", f"{API}/metrics", _definition(f"kept_{number}"))
    site.call("POST", f"{API}/groups", {"name": "bench"})
    members = [fleet.device(number) for number in range(min(10_000, fleet.devices))]
    site.call("POST", f"{API}/groups/bench/devices", {"device_ids": members})


def run(folder: Path, devices: int, runs: int) -> None:
    generator = LoadGenerator(folder)
    fleet = Fleet("large", devices, TICKS, STEP, int(time.time()) // STEP * STEP)
    with closing(Site(folder / "site")) as site:
        site.settle()
        took = fill(site.environment, fleet)
        say(
            f"{fleet.devices:,} devices, {fleet.devices * len(KINDS):,} series, {fleet.points:,} points",
            "",
            f"made in {took:.0f} s",
        )
        furnished(site, fleet)
        site.settle()
        for endpoint in endpoints(fleet, np.random.default_rng(7)):
            file = generator.prepare("requests", endpoint.requests())
            once = endpoint.method in ("DELETE",) or endpoint.name.startswith("create")
            found = [generator.run(site.port, file, 1)["lat_ms"] for _ in range(1 if once else runs)]
            p95, p50 = (median(one[which] for one in found) for which in ("p95", "p50"))
            say(
                endpoint.name, f"< {endpoint.goal:g}", f"{p95:.1f}", f"{p50:.1f}", "" if p95 < endpoint.goal else "over"
            )
        note(f"web process {site.web_rss() / 1e6:,.0f} MB")
    table("ms", "goal (p95)", "p95", "p50", "")


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.api", description=__doc__)
    parser.add_argument("--devices", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="telemetry-api-"))
    folder.chmod(0o755)
    print(f"calibration {calibration():.1f} ms (a quiet fast core: about 20)", file=sys.stderr)
    try:
        run(folder, given.devices, given.runs)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
