"""The same points and queries in InfluxDB 1.x and VictoriaMetrics, if they are installed.

They receive the last day of the fleet in line protocol, read from the blocks of the site.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import psycopg

from benchmarks.fill_storage import SECOND, Fleet
from benchmarks.loadgen import LoadGenerator, request
from benchmarks.report import log_progress, median
from benchmarks.servers import InfluxDB, Server, VictoriaMetrics
from metrics.storage.format.codec import decode
from metrics.storage.format.layout import day_of

DAY = 86_400  # seconds
LINES_PER_REQUEST = 20_000
HOURLY = "hourly averages of 1,000 series over a day"
POOLED = "p95 over 1,000 series over a day"
DATABASES: dict[str, type[InfluxDB] | type[VictoriaMetrics]] = {
    "InfluxDB": InfluxDB,
    "VictoriaMetrics": VictoriaMetrics,
}
WRITE_PATHS = {"InfluxDB": "/write?db=bench&precision=s", "VictoriaMetrics": "/write?precision=s"}

_BLOCKS = "SELECT payload FROM metrics_block WHERE day >= %s AND time_to >= %s ORDER BY bucket, day"
_NAMES = "SELECT s.id, d.device_id, s.metric_name FROM metrics_series s JOIN metrics_device d ON d.id = s.device_id"


def build_line_bodies(database: dict[str, str], fleet: Fleet) -> Iterator[bytes]:
    """Yield the last day of the fleet as request bodies in line protocol."""
    start, pending = (fleet.end - DAY) * SECOND, []
    with psycopg.connect(**database, autocommit=True) as connection:
        names = {
            number: f"{metric},device={device}"
            for number, device, metric in connection.execute(_NAMES)
            if device.startswith(fleet.name)
        }
        for (payload,) in connection.execute(_BLOCKS, (day_of(start), start), binary=True):
            for columns in decode(payload):
                selected = columns.times >= start
                rows = zip(
                    columns.series()[selected].tolist(),
                    (columns.times[selected] // SECOND).tolist(),
                    columns.values[selected].tolist(),
                    strict=True,
                )
                pending += [f"{names[number]} value={value} {at}" for number, at, value in rows if number in names]
            while len(pending) >= LINES_PER_REQUEST:
                yield "\n".join(pending[:LINES_PER_REQUEST]).encode()
                del pending[:LINES_PER_REQUEST]
    yield "\n".join(pending).encode()


def load(name: str, server: Server, generator: LoadGenerator, database: dict[str, str], fleet: Fleet) -> None:
    """Write the day and wait until the database has merged it."""
    file = generator.prepare(
        "lines",
        (
            (0, LINES_PER_REQUEST, request("POST", WRITE_PATHS[name], body))
            for body in build_line_bodies(database, fleet)
        ),
    )
    result = generator.run(server.port, file, 1)
    file.unlink()
    log_progress(f"{name}: {result['points_per_s']:,.0f} points/s")
    if name == "VictoriaMetrics":
        server.call("GET", "/internal/force_flush")
        server.call("GET", "/internal/force_merge")
    wait_until_idle(server)


def wait_until_idle(server: Server, patience: float = 120.0) -> None:
    """Wait until the server uses almost no CPU time for some seconds."""
    deadline, before, still = time.monotonic() + patience, server.cpu_seconds(), 0
    while still < 4 and time.monotonic() < deadline:
        time.sleep(1)
        used = server.cpu_seconds()
        still, before = still + 1 if used - before < 0.1 else 0, used


def build_queries(name: str, fleet: Fleet) -> dict[str, bytes]:
    """Return the requests for hourly averages of all devices and for the p95 of all points of one metric."""
    metric, start, end = fleet.metric("cpu_pct"), fleet.end - DAY, fleet.end
    if name == "InfluxDB":
        span = f"FROM {metric} WHERE time >= {start}s AND time < {end}s"
        return {
            HOURLY: _get(f"/query?db=bench&epoch=s&q={quote(f'SELECT mean(value) {span} GROUP BY time(1h)')}"),
            POOLED: _get(f"/query?db=bench&epoch=s&q={quote(f'SELECT percentile(value,95) {span}')}"),
        }
    hourly = quote(f"avg(avg_over_time({metric}[3600s]))")
    pooled = quote(f"histogram_quantile(0.95, sum(histogram_over_time({metric}[{DAY}s])) by (vmrange))")
    return {
        HOURLY: _get(f"/api/v1/query_range?start={start + 3599}&end={end - 1}&step=3600&nocache=1&query={hourly}"),
        POOLED: _get(f"/api/v1/query?time={end - 1}&nocache=1&query={pooled}"),
    }


def _get(path: str) -> bytes:
    return request("GET", path)


def measure(
    folder: Path, generator: LoadGenerator, database: dict[str, str], fleet: Fleet, runs: int
) -> dict[str, dict[str, Sequence[float]]]:
    """Return by database and query: the first response after a start, and the median (ms)."""
    results: dict[str, dict[str, Sequence[float]]] = {}
    for name, kind in DATABASES.items():
        if not kind.installed():
            log_progress(f"{name} is not installed")
            continue
        with closing(kind(folder / name)) as server:
            load(name, server, generator, database, fleet)
        with closing(kind(folder / name)) as server:
            wait_until_idle(server)
            results[name] = {}
            for query, data in build_queries(name, fleet).items():
                first = generator.run(server.port, generator.prepare("first", [(0, 0, data)]), 1)["lat_ms"]["p50"]
                file = generator.prepare("queries", [(0, 0, data)] * 10)
                results[name][query] = (
                    first,
                    median(generator.run(server.port, file, 1)["lat_ms"]["p50"] for _ in range(runs)),
                )
    return results
