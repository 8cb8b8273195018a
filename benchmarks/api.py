"""`make bench-api`: response times of the endpoints on a large site.

The site has 100,000 devices, a million series and 100 million points. Measures every endpoint with a required response
time, and further ones that depend on the number of devices. The p95 of requests over one connection, each for another
device, is compared with the required time.
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

from benchmarks.fill_storage import Fleet, fill
from benchmarks.loadgen import LoadGenerator, request
from benchmarks.report import add_row, log_progress, measure_calibration, median, print_table
from benchmarks.servers import HEADERS, Site
from benchmarks.workload import KINDS

API = "/api/v1/telemetry"
STEP, TICKS = 900, 100  # interval in seconds, points per series; a little more than a day
DEFINITIONS = 1000
REQUESTED_DEVICES = 100  # devices that requests are made for


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Requests to one endpoint, and the required p95 in milliseconds."""

    name: str
    required: float
    method: str
    paths: Sequence[str]
    bodies: Sequence[Any] = ()

    def requests(self) -> Iterator[tuple[int, int, bytes]]:
        for index, path in enumerate(self.paths):
            body = json.dumps(self.bodies[index]).encode() if self.bodies else b""
            yield 0, 0, request(self.method, path, body, HEADERS)


def list_endpoints(fleet: Fleet, rng: np.random.Generator) -> list[Endpoint]:
    devices = [fleet.device(number) for number in rng.integers(0, fleet.devices, REQUESTED_DEVICES).tolist()]
    metric = fleet.metric(KINDS[0])
    end = datetime.fromtimestamp(fleet.end, UTC).isoformat()
    start = datetime.fromtimestamp(fleet.end - 7 * 86_400, UTC).isoformat()
    week = {"metrics": [metric], "start_time": start, "end_time": end}
    return [
        *_writes(fleet, devices),
        *_definitions([f"bench_{number}" for number in range(REQUESTED_DEVICES)]),
        *_reads_of_points(devices, metric, week),
        *_reads_of_devices(devices),
    ]


def _paths_of(devices: list[str], template: str) -> list[str]:
    return [f"{API}/{template.format(device)}" for device in devices]


def _repeated(path: str) -> list[str]:
    return [path] * REQUESTED_DEVICES


def _writes(fleet: Fleet, devices: list[str]) -> list[Endpoint]:
    now = datetime.now(UTC).isoformat()
    points = [{"timestamp": now, "metric_name": fleet.metric(kind), "value": 1.5} for kind in KINDS]
    thousand = [point | {"metric_name": f"{fleet.name}_more{number}"} for number, point in enumerate(points * 100)]
    groups_of_ten = [devices[at : at + 10] for at in range(0, REQUESTED_DEVICES, 10)]
    single_paths = _paths_of(devices, "devices/{}/telemetry")
    batch_paths = _paths_of(devices, "devices/{}/telemetry/batch")[:20]
    bulks = [dict.fromkeys(ten, points) for ten in groups_of_ten]
    return [
        Endpoint("single data point", 100, "POST", single_paths, [points[0]] * REQUESTED_DEVICES),
        Endpoint("batch of 1,000", 500, "POST", batch_paths, [{"data_points": thousand}] * 20),
        Endpoint("bulk, 10 devices × 10 points", 1000, "POST", [f"{API}/bulk"] * 10, bulks),
    ]


def _definitions(names: list[str]) -> list[Endpoint]:
    collection, paths = _repeated(f"{API}/metrics"), [f"{API}/metrics/{name}" for name in names]
    tenth_page = _repeated(f"{API}/metrics?data_type=numeric&offset=900")
    return [
        Endpoint("create a metric definition", 100, "POST", collection, [_definition(name) for name in names]),
        Endpoint("list metric definitions", 100, "GET", collection),
        Endpoint("list metric definitions, filtered, tenth page", 100, "GET", tenth_page),
        Endpoint("get a metric definition", 50, "GET", paths),
        Endpoint("delete a metric definition", 50, "DELETE", paths),
    ]


def _reads_of_points(devices: list[str], metric: str, week: dict[str, Any]) -> list[Endpoint]:
    span = f"start_time={quote(week['start_time'])}&end_time={quote(week['end_time'])}"
    aggregated = f"aggregated?device_id={{}}&metric_name={metric}&aggregation_type=avg&interval=3600&{span}"
    queries = [week | {"devices": [device]} for device in devices]
    return [
        Endpoint("query, a week of one device", 500, "POST", _repeated(f"{API}/query"), queries),
        Endpoint("latest value", 50, "GET", _paths_of(devices, f"devices/{{}}/metrics/{metric}/latest")),
        Endpoint("range, 24 h", 200, "GET", _paths_of(devices, f"devices/{{}}/metrics/{metric}/range")),
        Endpoint("aggregated, one device", 300, "GET", _paths_of(devices, aggregated)),
        Endpoint(
            "export of one device, a day",
            500,
            "GET",
            _paths_of(devices, f"export/csv?device_ids={{}}&metric_names={metric}&{span}"),
        ),
    ]


def _reads_of_devices(devices: list[str]) -> list[Endpoint]:
    return [
        Endpoint("metrics of a device", 100, "GET", _paths_of(devices, "devices/{}/metrics")),
        Endpoint("statistics of a device", 200, "GET", _paths_of(devices, "devices/{}/stats")),
        Endpoint("statistics of the service", 300, "GET", _repeated(f"{API}/stats")),
        Endpoint("health", 20, "GET", _repeated("/health")),
        Endpoint("detailed health", 50, "GET", _repeated("/health/detailed")),
        Endpoint("list devices", 100, "GET", _repeated(f"{API}/devices")),
        Endpoint("list devices, searched", 100, "GET", _paths_of(devices, "devices?search={}")),
        Endpoint("list devices of a group", 100, "GET", _repeated(f"{API}/devices?group=bench")),
        Endpoint("get a device", 50, "GET", _paths_of(devices, "devices/{}")),
        Endpoint("list device groups", 100, "GET", _repeated(f"{API}/groups")),
    ]


def _definition(name: str) -> dict[str, Any]:
    return {"name": name, "data_type": "numeric", "min_value": 0, "max_value": 100}


def add_definitions_and_group(site: Site, fleet: Fleet) -> None:
    """Create metric definitions and a group of 10,000 devices."""
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
        seconds = fill(site.environment, fleet)
        add_row(
            f"{fleet.devices:,} devices, {fleet.devices * len(KINDS):,} series, {fleet.points:,} points",
            "",
            f"filled in {seconds:.0f} s",
        )
        add_definitions_and_group(site, fleet)
        site.settle()
        for endpoint in list_endpoints(fleet, np.random.default_rng(7)):
            file = generator.prepare("requests", endpoint.requests())
            runs_once = endpoint.method in ("DELETE",) or endpoint.name.startswith("create")
            latencies = [generator.run(site.port, file, 1)["lat_ms"] for _ in range(1 if runs_once else runs)]
            p95, p50 = (median(latency[which] for latency in latencies) for which in ("p95", "p50"))
            add_row(
                endpoint.name,
                f"< {endpoint.required:g}",
                f"{p95:.1f}",
                f"{p50:.1f}",
                "" if p95 < endpoint.required else "too slow",
            )
        log_progress(f"memory of the web process: {site.web_rss() / 1e6:,.0f} MB")
    print_table("milliseconds", "required p95", "p95", "p50", "")


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.api", description=__doc__)
    parser.add_argument("--devices", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="telemetry-api-"))
    folder.chmod(0o755)
    print(f"calibration {measure_calibration():.1f} ms (about 20 on an idle fast core)", file=sys.stderr)
    try:
        run(folder, arguments.devices, arguments.runs)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
