"""`python -m benchmarks.collectors [SECONDS]`: 200 collectors at 10 s on one worker, some of them hanging.

A target on this machine answers 95 HTTP and 95 TCP collectors; 10 more collect from one that accepts and never answers.
Lateness is the time from the due time of a collection to its start, of the journal, for all but the first minute.
"""

import asyncio
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.report import add_row, log_progress, print_table
from benchmarks.servers import Site

API = "/api/v1/telemetry"
INTERVAL, DEADLINE = 10, 9  # seconds
HTTP, TCP, HANGING = 95, 95, 10
WARM_UP = 60  # seconds
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Targets:
    """Servers of the collectors, in a thread: one that answers, and one that never does."""

    def __init__(self) -> None:
        self.ports: list[int] = []
        ready = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._serve(ready)), daemon=True).start()
        ready.wait(10)

    async def _serve(self, ready: threading.Event) -> None:
        for talk in (self._answer, self._hang):
            server = await asyncio.start_server(talk, "127.0.0.1", 0, backlog=512)
            self.ports.append(server.sockets[0].getsockname()[1])
        ready.set()
        await asyncio.Event().wait()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(4096):
            writer.write(ANSWER)
        writer.close()

    async def _hang(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()


def create_collectors(site: Site, answering: int, hanging: int) -> dict[str, list[str]]:
    """Create the collectors; return their IDs by kind."""
    ids: dict[str, list[str]] = {}
    targets: list[tuple[str, int, dict[str, Any]]] = [
        ("http", HTTP, {"url": f"http://127.0.0.1:{answering}/"}),
        ("tcp", TCP, {"host": "127.0.0.1", "port": answering}),
        ("hanging", HANGING, {"url": f"http://127.0.0.1:{hanging}/"}),
    ]
    for name, count, configuration in targets:
        for number in range(count):
            body = {
                "name": f"{name} {number}",
                "kind": "tcp" if name == "tcp" else "http",
                "device_id": f"device {number % 50}",
                "configuration": configuration,
                "interval": INTERVAL,
                "deadline": DEADLINE,
            }
            created = site.call("POST", f"{API}/collectors", body)
            ids.setdefault(name, []).append(created["collector_id"])
    return ids


def read_journal(site: Site, ids: list[str], since: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for collector_id in ids:
        page = site.call("GET", f"{API}/collectors/{collector_id}/collections?limit=1000")
        rows += [row for row in page["collections"] if row["collected_at"] >= since]
    return rows


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main() -> None:
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 120
    targets = Targets()
    with tempfile.TemporaryDirectory() as folder:
        overrides = {"TELEMETRY_ALLOW_PRIVATE_COLLECTORS": "127.0.0.0/8", "TELEMETRY_RATE_PER_KEY": "off"}
        site = Site(Path(folder) / "site", overrides)
        try:
            ids = create_collectors(site, *targets.ports)
            log_progress(f"{sum(map(len, ids.values()))} collectors, warming up for {WARM_UP} s")
            time.sleep(WARM_UP)
            since, cpu = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()), site.cpu_seconds()
            time.sleep(seconds)
            used = (site.cpu_seconds() - cpu) / seconds
            for name, members in ids.items():
                rows = read_journal(site, members, since)
                late, took = ([row[field] for row in rows] for field in ("late_ms", "duration_ms"))
                failed = sum(bool(row["error"]) for row in rows)
                add_row(
                    f"{len(members)} {name} collectors every {INTERVAL} s",
                    f"{len(rows)} ({failed} failed)",
                    f"{seconds // INTERVAL * len(members)}",
                    f"{percentile(late, 0.5):.0f} / {percentile(late, 0.95):.0f} / {max(late):.0f} ms",
                    f"{percentile(took, 0.5):.1f} / {percentile(took, 0.95):.1f} ms",
                )
            log_progress(f"{used:.2f} cores for the whole site")
        finally:
            site.stop()
    print_table("what", "collections", "expected", "late p50 / p95 / max", "duration p50 / p95")


if __name__ == "__main__":
    main()
