"""The same points and the same questions about a fleet in InfluxDB 1.x and VictoriaMetrics, where they are installed.

They get the last day of the fleet alone, in line protocol, read back out of the site's blocks.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import psycopg

from benchmarks.figures import median, note
from benchmarks.filling import SECOND, Fleet
from benchmarks.loadgen import LoadGenerator, request
from benchmarks.servers import InfluxDB, Server, VictoriaMetrics
from metrics.storage.format.codec import decode
from metrics.storage.format.layout import day_of

DAY = 86_400  # seconds
LINES = 20_000  # of one request
HOURLY = "hourly averages of 1,000 series over a day"
POOLED = "p95 over 1,000 series over a day"
PEERS: dict[str, type[InfluxDB] | type[VictoriaMetrics]] = {"InfluxDB": InfluxDB, "VictoriaMetrics": VictoriaMetrics}
WRITE = {"InfluxDB": "/write?db=bench&precision=s", "VictoriaMetrics": "/write?precision=s"}

_BLOCKS = "SELECT payload FROM metrics_block WHERE day >= %s AND time_to >= %s ORDER BY bucket, day"
_NAMES = "SELECT s.id, d.device_id, s.metric_name FROM metrics_series s JOIN metrics_device d ON d.id = s.device_id"


def lines(database: dict[str, str], fleet: Fleet) -> Iterator[bytes]:
    """The fleet's last day as bodies of line protocol, series by series."""
    start, waiting = (fleet.end - DAY) * SECOND, []
    with psycopg.connect(**database, autocommit=True) as connection:
        names = {
            number: f"{metric},device={device}"
            for number, device, metric in connection.execute(_NAMES)
            if device.startswith(fleet.name)
        }
        for (payload,) in connection.execute(_BLOCKS, (day_of(start), start), binary=True):
            for columns in decode(payload):
                kept = columns.times >= start
                rows = zip(
                    columns.series()[kept].tolist(),
                    (columns.times[kept] // SECOND).tolist(),
                    columns.values[kept].tolist(),
                    strict=True,
                )
                waiting += [f"{names[number]} value={value} {at}" for number, at, value in rows if number in names]
            while len(waiting) >= LINES:
                yield "\n".join(waiting[:LINES]).encode()
                del waiting[:LINES]
    yield "\n".join(waiting).encode()


def load(name: str, server: Server, generator: LoadGenerator, database: dict[str, str], fleet: Fleet) -> None:
    """Write the day, and wait until it is merged as far as the peer does by itself."""
    file = generator.prepare("lines", ((0, LINES, request("POST", WRITE[name], one)) for one in lines(database, fleet)))
    found = generator.run(server.port, file, 1)
    file.unlink()
    note(f"{name}: {found['points_per_s']:,.0f} points/s")
    if name == "VictoriaMetrics":
        server.call("GET", "/internal/force_flush")
        server.call("GET", "/internal/force_merge")
    quiet(server)


def quiet(server: Server, patience: float = 120.0) -> None:
    """Until the server does next to nothing for some seconds."""
    deadline, before, still = time.monotonic() + patience, server.cpu_seconds(), 0
    while still < 4 and time.monotonic() < deadline:
        time.sleep(1)
        used = server.cpu_seconds()
        still, before = still + 1 if used - before < 0.1 else 0, used


def questions(name: str, fleet: Fleet) -> dict[str, bytes]:
    """Hourly averages of all devices together, and the 95th percentile of all their points, of one metric."""
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


def asked(
    folder: Path, generator: LoadGenerator, database: dict[str, str], fleet: Fleet, runs: int
) -> dict[str, dict[str, Sequence[float]]]:
    """By peer and question: the first answer after a start, and the median (ms)."""
    found: dict[str, dict[str, Sequence[float]]] = {}
    for name, kind in PEERS.items():
        if not kind.installed():
            note(f"{name} is not installed")
            continue
        with closing(kind(folder / name)) as server:
            load(name, server, generator, database, fleet)
        with closing(kind(folder / name)) as server:
            quiet(server)
            found[name] = {}
            for what, one in questions(name, fleet).items():
                first = generator.run(server.port, generator.prepare("first", [(0, 0, one)]), 1)["lat_ms"]["p50"]
                file = generator.prepare("asked", [(0, 0, one)] * 10)
                found[name][what] = (
                    first,
                    median(generator.run(server.port, file, 1)["lat_ms"]["p50"] for _ in range(runs)),
                )
    return found
