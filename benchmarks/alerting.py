"""`python -m benchmarks.alerting [PART …]`: how fast rules judge and tell. Parts: throughput, latency, absence.

throughput  points of 10,000 series that 1,000 threshold rules watch, stored faster than they are judged: how long the
            worker takes until it has judged all of them
latency     1,000 breaches, while 20,000 points a second of those series arrive: from the answer to the measurement to
            the webhook's receiver
absence     5,000 devices that fall silent together: when, and in how many messages, that is told
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

from benchmarks.figures import note, say, table
from benchmarks.loadgen import request
from benchmarks.servers import HEADERS, Site

API = "/api/v1/telemetry"
GROUPS, PER_GROUP, METRICS = 100, 10, 10  # 1,000 devices of 10 metrics; a rule for each metric of a group
THRESHOLD = 90.0
BREACHES, BREACHES_A_SECOND = 1000, 20
LOAD, REQUESTS_A_SECOND = 20_000, 20  # points a second
SILENT, EXPECTED = 5000, 10  # devices, seconds
PATIENCE = 60.0  # seconds for whatever is told late
SETTLED = 10.0  # seconds that a site is left alone before it is measured


class Receiver:
    """A webhook's other end: when each alert was told of, and how many messages there were."""

    def __init__(self) -> None:
        self.told: dict[tuple[str, str], float] = {}
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
                        outer.told.setdefault((alert["device_id"], alert["metric_name"]), now)
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()


def device(group: int, number: int) -> str:
    return f"g{group:03d}-{number}"


def names() -> Iterator[tuple[str, str]]:
    """Every watched (device, metric)."""
    for group in range(GROUPS):
        for number in range(PER_GROUP):
            for metric in range(METRICS):
                yield device(group, number), f"m{metric}"


def stamp() -> str:
    """To the microsecond: a breach in the millisecond of a healthy value of its series would be the same point."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def bulk(some: Sequence[tuple[str, str]], value: float) -> dict[str, Any]:
    at = stamp()
    found: dict[str, list[dict[str, Any]]] = {}
    for device_id, metric in some:
        found.setdefault(device_id, []).append({"timestamp": at, "metric_name": metric, "value": value})
    return found


def prepare(site: Site, receiver: Receiver) -> None:
    """Devices, groups, series and rules."""
    everything = list(names())
    for at in range(0, len(everything), 1000):
        site.call("POST", f"{API}/bulk", bulk(everything[at : at + 1000], 50.0))
    for group in range(GROUPS):
        members = [device(group, number) for number in range(PER_GROUP)]
        site.call("POST", f"{API}/groups", {"name": f"group {group}"})
        site.call("POST", f"{API}/groups/group%20{group}/devices", {"device_ids": members})
        for metric in range(METRICS):
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
    """Write ticks of all series without HTTP, and wait until they are judged."""
    import numpy as np

    from metrics.storage.connection import connect
    from metrics.storage.write.writer import IncomingPoints, JournalEntry, stop_writer, writer

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
        began = time.perf_counter()
        for tick in range(ticks):
            arrivals = IncomingPoints(ids, np.full(len(ids), at + tick * 10_000, np.int64), values)
            writer().submit([arrivals], JournalEntry("bench", 0.0, len(ids)))
        wrote = time.perf_counter() - began
        while connection.execute(cursor).fetchone() < connection.execute(head).fetchone():  # type: ignore[operator]
            time.sleep(0.02)
        took = time.perf_counter() - began
    stop_writer()
    points = ticks * len(ids)
    say(f"{points:,} watched points, 1,000 rules: stored, points/s", f"{points / wrote:,.0f}", "")
    say("… and judged, from the first commit to the last verdict, points/s", f"{points / took:,.0f}", "≥ 100,000")


async def _load(port: int, stopping: asyncio.Event) -> int:
    """Healthy values of all series, over and over."""
    everything, at, sent = list(names()), 0, 0
    each = LOAD // REQUESTS_A_SECOND
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    due = time.perf_counter()
    while not stopping.is_set():
        some = [everything[(at + k) % len(everything)] for k in range(each)]
        at += each
        await _post(reader, writer, f"{API}/bulk", bulk(some, 50.0))
        sent += each
        due += 1 / REQUESTS_A_SECOND
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


async def _breaches(port: int, answered: dict[tuple[str, str], float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    everything = list(names())
    due = time.perf_counter()
    for number in range(BREACHES):
        device_id, metric = everything[number * 10 + number // 100 % 10]
        body = {"timestamp": stamp(), "metric_name": metric, "value": 99.0}
        await _post(reader, writer, f"{API}/devices/{device_id}/telemetry", body)
        answered[device_id, metric] = time.perf_counter()
        due += 1 / BREACHES_A_SECOND
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
    writer.close()


async def _under_load(port: int, answered: dict[tuple[str, str], float]) -> float:
    stopping = asyncio.Event()
    load = asyncio.create_task(_load(port, stopping))
    began = time.perf_counter()
    await asyncio.sleep(3)
    await _breaches(port, answered)
    await asyncio.sleep(6)
    stopping.set()
    return await load / (time.perf_counter() - began)


def latency(site: Site, receiver: Receiver) -> None:
    """Breaches one after the other, each of a series of its own."""
    receiver.told.clear()
    answered: dict[tuple[str, str], float] = {}
    rate = asyncio.run(_under_load(site.port, answered))
    until = time.perf_counter() + PATIENCE
    while not answered.keys() <= receiver.told.keys() and time.perf_counter() < until:
        time.sleep(0.05)
    found = sorted(receiver.told[key] - when for key, when in answered.items() if key in receiver.told)
    say("load meanwhile, points/s", f"{rate:,.0f}", f"{LOAD:,}")
    say("breaches that were told of", f"{len(found)} of {len(answered)}", "all")
    for name, part, goal in (("p50", 0.5, "< 400 ms"), ("p99", 0.99, "< 1 s"), ("max", 1.0, "< 5 s")):
        place = min(int(part * len(found)), len(found) - 1)
        say(f"from answer to receiver, {name}", f"{found[place] * 1000:,.0f} ms", goal)


def absence(site: Site, receiver: Receiver) -> None:
    """Devices that are heard once, at the same time, and never again."""
    fleet = [(f"silent{number:04d}", "alive") for number in range(SILENT)]
    for at in range(0, SILENT, 1000):
        site.call("POST", f"{API}/bulk", bulk(fleet[at : at + 1000], 1.0))
    from metrics.models import Device

    Device.objects.filter(device_id__startswith="silent").update(expected_interval=EXPECTED)
    rule = {"name": "silent", "kind": "absence", "metric_name": "alive", "notification_channels": ["hook"]}
    site.call("POST", f"{API}/alerts/rules", rule)
    for at in range(0, SILENT, 1000):
        site.call("POST", f"{API}/bulk", bulk(fleet[at : at + 1000], 1.0))
    last, then = time.perf_counter(), time.time()
    receiver.messages.clear()
    while sum(many for _, many in receiver.messages) < SILENT and time.perf_counter() - last < 60:
        time.sleep(0.05)
    times = [when - last for when, _ in receiver.messages]
    from alerts.models import AlertEvent, Delivery

    found = AlertEvent.objects.filter(alert__metric_name="alive", kind="triggered").order_by("-at").first()
    sent = Delivery.objects.order_by("-id").first()
    assert found is not None and sent is not None
    say("… were found, after the last was heard", f"{found.at.timestamp() - then:.1f} s", f"≤ {EXPECTED + 5} s")
    note(f"the message was made after {sent.created_at.timestamp() - then:.1f} s")
    say(f"of {SILENT:,} silent devices were told of", f"{sum(many for _, many in receiver.messages):,}", "all")
    say("… in so many messages", str(len(times)), "1")
    say("… after the last was heard, at the latest", f"{max(times, default=0):.1f} s", "")


def main() -> None:
    parts = sys.argv[1:] or ["throughput", "latency", "absence"]
    folder = Path(tempfile.mkdtemp(prefix="telemetry-bench-"))
    folder.chmod(0o755)
    receiver = Receiver()
    site = Site(folder / "site", {"TELEMETRY_ALLOW_PRIVATE_WEBHOOKS": "127.0.0.0/8"})
    try:
        os.environ.update(site.environment)
        os.environ["DJANGO_SETTINGS_MODULE"] = "telemetry_site.settings"
        import django

        django.setup()
        prepare(site, receiver)
        note("rules are made")
        time.sleep(SETTLED)
        if "throughput" in parts:
            throughput(site)
        if parts != ["throughput"]:
            from alerts.notifications.channel_lifecycle import create_channel

            create_channel({"name": "hook", "kind": "webhook", "url": receiver.url}, "bench")
        if "latency" in parts:
            time.sleep(SETTLED)
            latency(site, receiver)
        if "absence" in parts:
            time.sleep(SETTLED)
            absence(site, receiver)
    finally:
        site.stop()
        shutil.rmtree(folder, ignore_errors=True)
    table("alerting", "measured", "goal")


if __name__ == "__main__":
    main()
