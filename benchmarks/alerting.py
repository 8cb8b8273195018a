"""`python -m benchmarks.alerting [PART …]`: throughput and latency of rule evaluation and notifications.

Parts:

throughput  1,000 threshold rules on 10,000 series; points are stored faster than they are evaluated: time until all
            of them are evaluated
latency     1,000 breaches during 20,000 points/s of those series: time from the response to the measurement to the
            webhook
absence     5,000 devices stop sending at the same time: time until they are notified, and number of messages
"""

import asyncio
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks.loadgen import request
from benchmarks.report import add_row, log_progress, print_table
from benchmarks.servers import HEADERS, Site

API = "/api/v1/telemetry"
# 1,000 devices with 10 metrics; one rule per metric and group
GROUP_COUNT, DEVICES_PER_GROUP, METRICS_PER_DEVICE = 100, 10, 10
THRESHOLD = 90.0
BREACHES, BREACHES_PER_SECOND = 1000, 20
LOAD_POINTS_PER_SECOND, LOAD_REQUESTS_PER_SECOND = 20_000, 20  # background load
OFFLINE_DEVICES, EXPECTED_INTERVAL = 5000, 10  # devices, seconds
NOTIFICATION_TIMEOUT = 60.0  # seconds after the last breach
SETTLE_TIME = 10.0  # seconds before each measurement


class NotificationReceiver:
    """Webhook receiver that records when each alert and each message arrived."""

    def __init__(self) -> None:
        self.received_at: dict[tuple[str, str], float] = {}
        self.messages: list[tuple[float, int]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                now = time.perf_counter()
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if body["event"] == "alert.triggered":
                    outer.messages.append((now, len(body["alerts"])))
                    for alert in body["alerts"]:
                        outer.received_at.setdefault((alert["device_id"], alert["metric_name"]), now)
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()


def device(group: int, number: int) -> str:
    return f"g{group:03d}-{number}"


def list_series() -> Iterator[tuple[str, str]]:
    """Yield the (device, metric) of every series with a rule."""
    for group in range(GROUP_COUNT):
        for number in range(DEVICES_PER_GROUP):
            for metric in range(METRICS_PER_DEVICE):
                yield device(group, number), f"m{metric}"


def current_time() -> str:
    """Return the time in microseconds: in the same millisecond, a breach would be the same point as a normal value."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def bulk(series: Sequence[tuple[str, str]], value: float) -> dict[str, Any]:
    at = current_time()
    body: dict[str, list[dict[str, Any]]] = {}
    for device_id, metric in series:
        body.setdefault(device_id, []).append({"timestamp": at, "metric_name": metric, "value": value})
    return body


def prepare(site: Site, receiver: NotificationReceiver) -> None:
    """Create devices, groups, series and rules."""
    all_series = list(list_series())
    for at in range(0, len(all_series), 1000):
        site.call("POST", f"{API}/bulk", bulk(all_series[at : at + 1000], 50.0))
    for group in range(GROUP_COUNT):
        members = [device(group, number) for number in range(DEVICES_PER_GROUP)]
        site.call("POST", f"{API}/groups", {"name": f"group {group}"})
        site.call("POST", f"{API}/groups/group%20{group}/devices", {"device_ids": members})
        for metric in range(METRICS_PER_DEVICE):
            rule = {
                "name": f"m{metric} of group {group}",
                "metric_name": f"m{metric}",
                "condition": ">",
                "threshold_value": THRESHOLD,
                "device_groups": [f"group {group}"],
                "notification_channels": ["hook"],
            }
            site.call("POST", f"{API}/alerts/rules", rule)


def throughput(site: Site) -> None:
    """Write points of all series without HTTP and wait until they are evaluated."""
    import numpy as np

    from metrics.storage.connection import connect
    from metrics.storage.write.group_commit import JournalEntry, stop_writer, writer
    from metrics.storage.write.incoming import IncomingPoints

    ticks = 300
    with connect() as connection:
        series = [
            number
            for (number,) in connection.execute(
                "SELECT id FROM metrics_series WHERE metric_name LIKE 'm_' ORDER BY id"
            ).fetchall()
        ]
        ids = np.array(series, np.int64)
        head, cursor = "SELECT sum(seq) FROM metrics_head", "SELECT sum(seq) FROM alerts_cursor"
        values, at = np.full(len(ids), 50.0), time.time_ns() // 1000
        started = time.perf_counter()
        for tick in range(ticks):
            arrivals = IncomingPoints(ids, np.full(len(ids), at + tick * 10_000, np.int64), values)
            writer().submit([arrivals], JournalEntry("bench", 0.0, len(ids)))
        write_seconds = time.perf_counter() - started
        while connection.execute(cursor).fetchone() < connection.execute(head).fetchone():  # type: ignore[operator]
            time.sleep(0.02)
        total_seconds = time.perf_counter() - started
    stop_writer()
    points = ticks * len(ids)
    add_row(f"{points:,} points with 1,000 rules: stored, points/s", f"{points / write_seconds:,.0f}", "")
    add_row("stored and evaluated, points/s", f"{points / total_seconds:,.0f}", "≥ 100,000")


async def _load(port: int, stopping: asyncio.Event) -> int:
    """Send normal values of all series until `stopping` is set. Returns the number of points."""
    all_series, position, sent = list(list_series()), 0, 0
    batch_size = LOAD_POINTS_PER_SECOND // LOAD_REQUESTS_PER_SECOND
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    due = time.perf_counter()
    while not stopping.is_set():
        batch = [all_series[(position + k) % len(all_series)] for k in range(batch_size)]
        position += batch_size
        await _post(reader, writer, f"{API}/bulk", bulk(batch, 50.0))
        sent += batch_size
        due += 1 / LOAD_REQUESTS_PER_SECOND
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
    writer.close()
    return sent


async def _post(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, body: Any) -> None:
    writer.write(request("POST", path, json.dumps(body).encode(), [*HEADERS]))
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    data = await reader.readexactly(length)
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"{path}: {head[:20]!r} {data[:200]!r}")


async def _send_breaches(port: int, response_times: dict[tuple[str, str], float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    all_series = list(list_series())
    due = time.perf_counter()
    for number in range(BREACHES):
        device_id, metric = all_series[number * 10 + number // 100 % 10]
        body = {"timestamp": current_time(), "metric_name": metric, "value": 99.0}
        await _post(reader, writer, f"{API}/devices/{device_id}/telemetry", body)
        response_times[device_id, metric] = time.perf_counter()
        due += 1 / BREACHES_PER_SECOND
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
    writer.close()


async def _send_under_load(port: int, response_times: dict[tuple[str, str], float]) -> float:
    stopping = asyncio.Event()
    load = asyncio.create_task(_load(port, stopping))
    began = time.perf_counter()
    await asyncio.sleep(3)
    await _send_breaches(port, response_times)
    await asyncio.sleep(6)
    stopping.set()
    return await load / (time.perf_counter() - began)


def latency(site: Site, receiver: NotificationReceiver) -> None:
    """Measure the latency of breaches, each of another series."""
    receiver.received_at.clear()
    response_times: dict[tuple[str, str], float] = {}
    rate = asyncio.run(_send_under_load(site.port, response_times))
    deadline = time.perf_counter() + NOTIFICATION_TIMEOUT
    while not response_times.keys() <= receiver.received_at.keys() and time.perf_counter() < deadline:
        time.sleep(0.05)
    latencies = sorted(
        receiver.received_at[key] - responded_at
        for key, responded_at in response_times.items()
        if key in receiver.received_at
    )
    add_row("background load, points/s", f"{rate:,.0f}", f"{LOAD_POINTS_PER_SECOND:,}")
    add_row("breaches notified", f"{len(latencies)} of {len(response_times)}", "all")
    for name, quantile, goal in (("p50", 0.5, "< 400 ms"), ("p99", 0.99, "< 1 s"), ("max", 1.0, "< 5 s")):
        index = min(int(quantile * len(latencies)), len(latencies) - 1)
        add_row(f"from response to webhook, {name}", f"{latencies[index] * 1000:,.0f} ms", goal)


def absence(site: Site, receiver: NotificationReceiver) -> None:
    """Measure absence notifications of devices that send once at the same time and then stop."""
    fleet = [(f"silent{number:04d}", "alive") for number in range(OFFLINE_DEVICES)]
    for at in range(0, OFFLINE_DEVICES, 1000):
        site.call("POST", f"{API}/bulk", bulk(fleet[at : at + 1000], 1.0))
    from metrics.models import Device

    Device.objects.filter(device_id__startswith="silent").update(expected_interval=EXPECTED_INTERVAL)
    rule = {"name": "silent", "kind": "absence", "metric_name": "alive", "notification_channels": ["hook"]}
    site.call("POST", f"{API}/alerts/rules", rule)
    for at in range(0, OFFLINE_DEVICES, 1000):
        site.call("POST", f"{API}/bulk", bulk(fleet[at : at + 1000], 1.0))
    last_sent, last_sent_time = time.perf_counter(), time.time()
    receiver.messages.clear()
    while sum(count for _, count in receiver.messages) < OFFLINE_DEVICES and time.perf_counter() - last_sent < 60:
        time.sleep(0.05)
    delays = [received_at - last_sent for received_at, _ in receiver.messages]
    from alerts.models import AlertEvent, Delivery

    last_event = AlertEvent.objects.filter(alert__metric_name="alive", kind="triggered").order_by("-at").first()
    last_delivery = Delivery.objects.order_by("-id").first()
    assert last_event is not None and last_delivery is not None
    add_row(
        "alerts opened after the last point",
        f"{last_event.at.timestamp() - last_sent_time:.1f} s",
        f"≤ {EXPECTED_INTERVAL + 5} s",
    )
    log_progress(f"delivery created after {last_delivery.created_at.timestamp() - last_sent_time:.1f} s")
    add_row(
        f"notified of {OFFLINE_DEVICES:,} offline devices", f"{sum(count for _, count in receiver.messages):,}", "all"
    )
    add_row("messages", str(len(delays)), "1")
    add_row("last message after the last point", f"{max(delays, default=0):.1f} s", "")


def main() -> None:
    parts = sys.argv[1:] or ["throughput", "latency", "absence"]
    folder = Path(tempfile.mkdtemp(prefix="telemetry-bench-"))
    folder.chmod(0o755)
    receiver = NotificationReceiver()
    site = Site(folder / "site", {"TELEMETRY_ALLOW_PRIVATE_WEBHOOKS": "127.0.0.0/8"})
    try:
        os.environ.update(site.environment)
        os.environ["DJANGO_SETTINGS_MODULE"] = "telemetry_site.settings"
        import django

        django.setup()
        prepare(site, receiver)
        log_progress("rules created")
        time.sleep(SETTLE_TIME)
        if "throughput" in parts:
            throughput(site)
        if parts != ["throughput"]:
            from alerts.notifications.channel_lifecycle import create_channel

            create_channel({"name": "hook", "kind": "webhook", "url": receiver.url}, "bench")
        if "latency" in parts:
            time.sleep(SETTLE_TIME)
            latency(site, receiver)
        if "absence" in parts:
            time.sleep(SETTLE_TIME)
            absence(site, receiver)
    finally:
        site.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print_table("measurement", "result", "goal")


if __name__ == "__main__":
    main()
