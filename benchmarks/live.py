"""`python -m benchmarks.live [PART …]`: live streams with many viewers, on the same cores as the site.

Parts:

viewers   500 sockets on 1,000 series at 5,000 points/s: time from the response to a batch to the frame that has its
          value or a newer one; decodes of each commit in the web process; the same beside 5 sockets that never read
idle      memory of 2,000 sockets without data
aborts    10,000 connections that are reset at all stages: what is left of them
ingest    batches of 1,000 with viewers and event bus, alternating with a site without them
outage    single points while NATS is stopped, alternating with the time after its restart
layer     the pub/sub layer of channels-redis with as many viewers
"""

import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import psycopg
import redis

from benchmarks import encoders
from benchmarks.live_clients import (
    API,
    BATCHES_PER_ROUND,
    DEVICES,
    SERIES,
    ClientProcess,
    Received,
    SilentSocket,
    Viewer,
    batch_body,
    run_aborts,
    run_readers,
    run_writer,
    series_name,
)
from benchmarks.loadgen import LoadGenerator
from benchmarks.report import add_row, log_progress, median, print_table
from benchmarks.servers import KEY, Nats, Site
from benchmarks.workload import Workload

VIEWERS, IDLE_SOCKETS, SILENT_SOCKETS, ABORTS = 500, 2000, 5, 10_000
POINTS_PER_SECOND = 5_000
MAX_FREQUENCY = 1000  # milliseconds between two frames of a subscription
SOCKETS_PER_KEY = 40  # the site allows a caller 50
WARM_UP, DURATION = 5.0, 60.0  # seconds
SETTLE_TIME = 10.0  # seconds before memory is measured
SLOW_TIMEOUT = 30.0  # seconds after which a socket that never reads must be closed
RETURN_TIMEOUT = 60.0  # seconds in which aborted connections must be cleaned up
INGEST_VIEWERS, INGEST_PAIRS, INGEST_TICKS = 20, 5, 1000
OUTAGE_POINTS = 20_000
SITE = {"TELEMETRY_CONNECTIONS_PER_ADDRESS": "0", "TELEMETRY_RATE_PER_ADDRESS": "off"}


class Streams:
    """The site with API keys and subscriptions for any number of sockets."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._keys: list[str] = []

    def create_series(self) -> None:
        import http.client

        connection = http.client.HTTPConnection("127.0.0.1", self.site.port, timeout=60)
        for number in range(1, BATCHES_PER_ROUND + 1):
            headers = {"X-Api-Key": KEY, "Content-Type": "application/json"}
            connection.request("POST", f"{API}/bulk", batch_body(number), headers)
            response = connection.getresponse()
            assert response.status == 200, response.read()
            response.read()
        connection.close()

    def viewers(self, count: int, subscription: Callable[[int], dict[str, Any]]) -> list[Viewer]:
        """Create `count` subscriptions, with the fields that `subscription(number)` returns."""
        while len(self._keys) * SOCKETS_PER_KEY < count:
            body = {"name": f"viewers {len(self._keys)}", "scope": "read"}
            self._keys.append(self.site.call("POST", f"{API}/keys", body)["key"])

        def create(number: int) -> Viewer:
            key = self._keys[number // SOCKETS_PER_KEY]
            body = {"max_frequency": MAX_FREQUENCY} | subscription(number)
            answer = self.site.call("POST", f"{API}/subscribe", body, key)
            return Viewer(answer["websocket_url"], key, number * 2 % SERIES)

        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(create, range(count)))


def all_series(number: int) -> dict[str, Any]:
    return {}


def one_device(number: int) -> dict[str, Any]:
    return {"device_ids": [series_name(number * 2 % SERIES)[0]]}


def no_data(number: int) -> dict[str, Any]:
    return {"device_ids": [f"idle{number:04d}"]}


def delays(received: Received, viewers: Sequence[Viewer], answers: dict[int, float]) -> list[float]:
    """Return the seconds from each answer to the first frame that has the value or a newer one, over all sockets."""
    result = []
    for viewer, values in zip(viewers, received.values, strict=True):
        batches = [
            number for number in sorted(answers) if number % BATCHES_PER_ROUND == viewer.series % BATCHES_PER_ROUND
        ]
        position = 0
        for received_at, value in values:
            while position < len(batches) and batches[position] <= value:
                result.append(received_at - answers[batches[position]])
                position += 1
    return sorted(result)


def quantile(values: Sequence[float], share: float) -> float:
    return values[min(int(share * len(values)), len(values) - 1)]


class Measurement:
    """Readers, a writer, and what they record in a stretch of time."""

    def __init__(self, site: Site, viewers: Sequence[Viewer]) -> None:
        self.site, self.viewers = site, viewers
        self.readers = ClientProcess(run_readers, site.port, viewers)
        self.writer = ClientProcess(run_writer, site.port, KEY, POINTS_PER_SECOND)
        time.sleep(WARM_UP)

    def run(self, seconds: float, name: str) -> float:
        """Measure for `seconds`; add rows; return the p95 of the delay in seconds."""
        self.readers.take()
        self.writer.take()
        commits, decoded = commit_counts(self.site)
        cpu = self.site.web_process().cpu_times()
        time.sleep(seconds)
        used = self.site.web_process().cpu_times()
        commits_after, decoded_after = commit_counts(self.site)
        answers = self.writer.take()
        received: Received = self.readers.take()
        found = delays(received, self.viewers, answers)
        beyond = quantile(found, 0.95) - MAX_FREQUENCY / 1000
        cpu_share = (used.user + used.system - cpu.user - cpu.system) / seconds
        points = len(answers) * SERIES / BATCHES_PER_ROUND
        add_row(f"{name}: p95 beyond max_frequency", f"{beyond * 1000:,.0f} ms", "< 250 ms")
        log_progress(
            f"{len(found):,} delays, p50 {quantile(found, 0.5):.3f} s, p99 {quantile(found, 0.99):.3f} s, "
            f"max {found[-1]:.3f} s; {points / seconds:,.0f} points/s; {received.frames / seconds:,.0f} frames/s, "
            f"{received.bytes / seconds / 2**20:,.1f} MB/s; CPU of the web process {cpu_share:.2f}; "
            f"closed {received.close_codes or 'none'}"
        )
        decodes = (decoded_after - decoded) / (commits_after - commits)
        add_row(f"{name}: decodes of a commit in the process", f"{decodes:.2f}", "1")
        return quantile(found, 0.95)

    def stop(self) -> None:
        self.writer.stop()
        self.readers.stop()


def commit_counts(site: Site) -> tuple[int, int]:
    """Return the number of commits, and of those that the web process has decoded for streams."""
    figures = site.call("GET", "/health/detailed")["performance"]
    return figures["commits"], figures["commits_decoded_here"]


def measure_viewers(streams: Streams) -> None:
    site = streams.site
    viewers = streams.viewers(VIEWERS, one_device)
    measurement = Measurement(site, viewers)
    measurement.run(DURATION / 2, f"{VIEWERS} sockets, each on one of {DEVICES} devices")
    measurement.stop()
    measurement = Measurement(site, streams.viewers(VIEWERS, all_series))
    try:
        with MemoryPeak(site) as alone:
            p95 = measurement.run(DURATION, f"{VIEWERS} sockets on all {SERIES:,} series")
        silent_viewers = streams.viewers(SOCKETS_PER_KEY + VIEWERS, all_series)[-SILENT_SOCKETS:]
        with MemoryPeak(site) as beside, SilentSockets(site, silent_viewers) as silent:
            p95_beside = measurement.run(DURATION, f"the same beside {SILENT_SOCKETS} sockets that never read")
    finally:
        measurement.stop()
    growth = (beside.growth - max(0, alone.growth)) / SILENT_SOCKETS
    add_row("growth of the process for each silent socket in 60 s", f"{growth / 2**20:.2f} MB", "< 1 MB")
    closed = [f"{seconds:.0f} s" for seconds in silent.closed_after()]
    add_row("silent sockets closed after", ", ".join(closed) or "never", f"{SILENT_SOCKETS} within 30 s")
    add_row("close codes that silent sockets read afterwards", ", ".join(map(str, silent.close_codes)), "4008")
    add_row("p95 beside silent sockets, ratio", f"{p95_beside / p95:.2f} ×", "≤ 1.2 ×")


class MemoryPeak:
    """The growth of the web process within a `with` block, from the start to the peak, in bytes."""

    def __init__(self, site: Site) -> None:
        self._process, self._ended = site.web_process(), threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "MemoryPeak":
        self._start = self._peak = self._process.memory_info().rss
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            self._peak = max(self._peak, self._process.memory_info().rss)

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.growth = self._peak - self._start


class SilentSockets:
    """Sockets that never read within a `with` block, and when the site closed them."""

    def __init__(self, site: Site, viewers: Sequence[Viewer]) -> None:
        self._site, self._viewers = site, viewers
        self._ended = threading.Event()
        self._closed_at: dict[int, float] = {}
        self.close_codes: list[int] = []

    def __enter__(self) -> "SilentSockets":
        self._sockets = [SilentSocket(self._site.port, viewer) for viewer in self._viewers]
        self._opened_at = time.monotonic()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        """Record when the web process has no longer an open connection to a socket."""
        ports, process = {each.local_port for each in self._sockets}, self._site.web_process()
        while not self._ended.wait(0.5):
            open_ports = {
                each.raddr.port
                for each in process.net_connections("tcp")
                if each.raddr and each.status == psutil.CONN_ESTABLISHED
            }
            for port in ports - open_ports - self._closed_at.keys():
                self._closed_at[port] = time.monotonic()

    def closed_after(self) -> list[float]:
        return [at - self._opened_at for at in self._closed_at.values()]

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.close_codes = [each.read_close_code() for each in self._sockets]


def measure_idle(streams: Streams) -> None:
    site, viewers = streams.site, streams.viewers(IDLE_SOCKETS, no_data)
    time.sleep(SETTLE_TIME)
    before = site.web_rss()
    readers = ClientProcess(run_readers, site.port, viewers)
    time.sleep(SETTLE_TIME)
    grown = (site.web_rss() - before) / IDLE_SOCKETS
    add_row(f"memory of each of {IDLE_SOCKETS:,} idle sockets", f"{grown / 1024:.1f} KB", "< 60 KB")
    readers.stop()


def measure_aborts(streams: Streams) -> None:
    site, viewers = streams.site, streams.viewers(IDLE_SOCKETS, no_data)
    ClientProcess(run_aborts, site.port, viewers, ABORTS // 5).join()  # memory that later connections use again
    time.sleep(SETTLE_TIME)
    before = left_over(site)
    ClientProcess(run_aborts, site.port, viewers, ABORTS).join()
    ended, after = time.monotonic(), left_over(site)
    while time.monotonic() < ended + RETURN_TIMEOUT:
        after = left_over(site)
        if all(after[name] <= before[name] for name in ("descriptors", "Redis keys", "sockets")):
            break
        time.sleep(0.5)
    log_progress(f"stable after {time.monotonic() - ended:.1f} s")
    for name in before:
        unit = 2**20 if name == "memory, MB" else 1
        add_row(
            f"{ABORTS:,} aborted connections: {name} before and after",
            f"{before[name] / unit:,.0f}, {after[name] / unit:,.0f}",
            "equal",
        )


def left_over(site: Site) -> dict[str, float]:
    """Count what connections leave behind."""
    process = site.web_process()
    with redis.Redis.from_url(site.data_folder.redis_url) as client:
        keys = client.dbsize()
    with psycopg.connect(**site.data_folder.database) as connection:  # type: ignore[arg-type]
        rows = connection.execute(
            "SELECT (SELECT count(*) FROM dashboard_subscription) + (SELECT count(*) FROM dashboard_ticket)"
        ).fetchone() or [0]
    return {
        "descriptors": process.num_fds(),
        "sockets": site.call("GET", "/health/detailed")["performance"]["sockets_here"],
        "Redis keys": float(keys),  # type: ignore[arg-type]
        "rows of subscriptions and tickets": rows[0],
        "memory, MB": process.memory_info().rss,
    }


def measure_ingest(folder: Path, without: Site) -> None:
    """Measure batches of 1,000 on a site with viewers and bus, alternating with one that has neither."""
    nats = Nats(folder / "nats")
    try:
        streaming = Site(folder / "streaming", {**SITE, "NATS_URL": nats.url})
        try:
            compare_ingest(folder, without, streaming)
        finally:
            streaming.stop()
    finally:
        nats.stop()


def compare_ingest(folder: Path, without: Site, streaming: Site) -> None:
    generator, start = LoadGenerator(folder), int(time.time()) - 10 * INGEST_TICKS * (INGEST_PAIRS + 2)
    loads = [
        Workload(devices=100, ticks=INGEST_TICKS, start=start + 10 * INGEST_TICKS * number, seed=number)
        for number in range(INGEST_PAIRS + 1)
    ]
    files = [generator.prepare(f"bulk{number}", encoders.bulk(load, 1000, 4)) for number, load in enumerate(loads)]
    for site in (without, streaming):
        generator.run(site.port, files[0], 4)
        site.settle()
    readers = ClientProcess(run_readers, streaming.port, Streams(streaming).viewers(INGEST_VIEWERS, all_series))
    rates = [[generator.run(site.port, file, 4)["points_per_s"] for site in (without, streaming)] for file in files[1:]]
    readers.stop()
    ratio = median(on / off for off, on in rates)
    add_row(
        f"ingest with {INGEST_VIEWERS} sockets on all series and NATS",
        f"{median(on for _, on in rates):,.0f} points/s; {ratio:.2f} × without",
        "≥ 0.90 ×",
    )


def measure_outage(folder: Path) -> None:
    """Measure single points on a site with the event bus while NATS runs and while it is stopped."""
    nats = Nats(folder / "outage nats")
    site = Site(folder / "outage", {**SITE, "NATS_URL": nats.url})
    try:
        generator = LoadGenerator(folder)
        load = Workload(devices=100, ticks=INGEST_TICKS, start=int(time.time()) - 10 * INGEST_TICKS, seed=99)
        file = generator.prepare("outage", encoders.single(load, OUTAGE_POINTS))
        generator.run(site.port, file, 4, "shared")
        latencies: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(INGEST_PAIRS):
            for is_running in (True, False):
                if not is_running:
                    nats.stop()
                site.settle()
                latencies[is_running].append(generator.run(site.port, file, 4, "shared")["lat_ms"]["p99"])
            nats = Nats(folder / "outage nats", nats.port)
    finally:
        site.stop()
        nats.stop()
    running, stopped = median(latencies[True]), median(latencies[False])
    ratio = median(off / on for on, off in zip(latencies[True], latencies[False], strict=True))
    add_row(
        "p99 of single points, NATS running; stopped",
        f"{running:.1f}; {stopped:.1f} ms; {ratio:.2f} ×",
        "≤ 1.2 ×",
    )


def measure_layer(site: Site) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.channels_layer", site.data_folder.redis_url],
        check=True,
        capture_output=True,
        text=True,
    )
    result = json.loads(done.stdout)
    add_row("channels-redis pub/sub: decodes of a message", f"{result['decodes']:.0f}", "")
    grown = f"{result['growth'] / 2**20:.1f} MB, without bound"
    add_row("channels-redis pub/sub: growth for a silent socket in 60 s", grown, "")


PARTS = ("viewers", "idle", "aborts", "ingest", "outage", "layer")


def main() -> None:
    parts = sys.argv[1:] or PARTS
    folder = Path(tempfile.mkdtemp(prefix="telemetry-bench-"))
    folder.chmod(0o755)
    site = Site(folder / "site", SITE)
    try:
        site.settle()
        streams = Streams(site)
        streams.create_series()
        if "idle" in parts:
            measure_idle(streams)
        if "aborts" in parts:
            measure_aborts(streams)
        if "viewers" in parts:
            measure_viewers(streams)
        if "layer" in parts:
            measure_layer(site)
        if "ingest" in parts:
            measure_ingest(folder, site)
        if "outage" in parts:
            measure_outage(folder)
    finally:
        site.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print_table("measurement", "result", "goal")


if __name__ == "__main__":
    main()
