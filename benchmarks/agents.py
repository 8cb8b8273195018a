"""10,000 edge agents that send a snapshot a minute each: `python -m benchmarks.agents`.

Each agent has an API key of its own and one kept-alive connection, sends the snapshot of this machine with its own
node_id at its own second of the minute, and asks for its configuration as often as an agent does. Devices and series
exist before, and each agent has connected and sent once, 32 at a time. The load generator shares the machine with the
site.
"""

import argparse
import asyncio
import http.client
import json
import random
import resource
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.report import add_row, log_progress, print_table
from benchmarks.servers import HEADERS, Site
from ingest.agent.bulk import bulk_body
from ingest.agent.daemon import POLL_INTERVAL
from ingest.agent.machine_clock import rfc3339
from ingest.agent.measure import HostMeasurement

INTERVAL = 60.0  # seconds between two snapshots of an agent
TIMEOUT = 10.0  # seconds, as the agent's
BULK_DEVICES = 100
CONNECTING = 32  # agents at a time
SPARE_FILES = 500  # descriptors in addition to those of connections
CREATE_KEYS = """
from ingest.models import ApiKey, digest_of
from metrics.models import Device
devices = Device.objects.bulk_create([Device(device_id=f"agent-{n:05}") for n in range({count})])
ApiKey.objects.bulk_create(
    [ApiKey(name=d.device_id, scope="ingest", device=d, prefix="tk_bench", digest=digest_of("tk_bench_" + d.device_id))
     for d in devices])
"""


@dataclass
class Minute:
    """Milliseconds of the answers of a minute, and the number of failures."""

    snapshots: list[float] = field(default_factory=list)
    configurations: list[float] = field(default_factory=list)
    failed: int = 0

    def quantile(self, share: float) -> float:
        ordered = sorted(self.snapshots)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class SimulatedAgent:
    """One agent with its connection."""

    def __init__(self, number: int, port: int, fields: dict[str, Any]) -> None:
        self.name, self._port, self._fields = f"agent-{number:05}", port, fields
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self) -> float:
        """Send a snapshot; return the milliseconds until its answer."""
        document = {"node_id": self.name, "timestamp": rfc3339(time.time()), **self._fields}
        return await self._exchange("POST", "/api/telemetry/snapshot", json.dumps(document).encode())

    async def ask(self) -> float:
        """Ask for the configuration; return the milliseconds until its answer."""
        return await self._exchange("GET", f"/api/v1/telemetry/devices/{self.name}/agent", b"")

    async def _exchange(self, method: str, path: str, body: bytes) -> float:
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer tk_bench_{self.name}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        started = time.perf_counter()
        async with asyncio.timeout(TIMEOUT):
            try:
                reader, answer = await self._request(head.encode() + body)
            except (ConnectionError, asyncio.IncompleteReadError):  # closed by the site while it was idle
                self.close()
                reader, answer = await self._request(head.encode() + body)
            length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.split(b":")[1]))
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer[:200].decode())
        return 1e3 * (time.perf_counter() - started)

    async def _request(self, data: bytes) -> tuple[asyncio.StreamReader, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(data)
        return reader, await reader.readuntil(b"\r\n\r\n")

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def run_agent(agent: SimulatedAgent, at: float, minutes: list[Minute]) -> None:
    """Send at each time of the agent, whether or not the last answer was late."""
    poll_at = random.uniform(0, POLL_INTERVAL)
    for number, minute in enumerate(minutes):
        due = at + number * INTERVAL
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        try:
            minute.snapshots.append(await agent.send())
            if number * INTERVAL >= poll_at:
                poll_at += POLL_INTERVAL
                minute.configurations.append(await agent.ask())
        except (OSError, RuntimeError, TimeoutError, asyncio.IncompleteReadError) as error:
            minute.failed += 1
            if minute.failed == 1:
                log_progress(f"{type(error).__name__} {error}")
            agent.close()


def measured_fields() -> dict[str, Any]:
    host = HostMeasurement()
    host.fields()
    time.sleep(1)
    return {**host.fields(), "agent.version": "1.1.0", "agent.queue.depth": 0, "agent.queue.dropped": 0}


def create_series(port: int, count: int, fields: dict[str, Any]) -> None:
    """Send a first snapshot of all agents in bulk requests."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    for first in range(0, count, BULK_DEVICES):
        numbers = range(first, min(count, first + BULK_DEVICES))
        names = {"timestamp": rfc3339(time.time()), **fields}
        body = json.dumps(bulk_body([{"node_id": f"agent-{number:05}", **names} for number in numbers]))
        connection.request("POST", "/api/v1/telemetry/bulk", body, dict(HEADERS))
        answer = connection.getresponse()
        if answer.status != 200:
            raise RuntimeError(answer.read(500).decode())
        answer.read()
    connection.close()


async def connect(agents: list[SimulatedAgent]) -> None:
    """Send the first snapshot of each agent, for which the site looks up its key."""
    turns, started = asyncio.Semaphore(CONNECTING), time.monotonic()

    async def first(agent: SimulatedAgent) -> None:
        async with turns:
            await agent.send()

    await asyncio.gather(*(first(agent) for agent in agents))
    add_row(
        "first snapshots, with the lookup of the key", f"{len(agents) / (time.monotonic() - started):,.0f} agents/s"
    )


async def run(port: int, count: int, minutes: list[Minute], fields: dict[str, Any]) -> None:
    agents = [SimulatedAgent(number, port, fields) for number in range(count)]
    await connect(agents)
    start = time.monotonic() + 1
    offsets = (number * INTERVAL / count for number in range(count))
    await asyncio.gather(*(run_agent(agent, start + at, minutes) for agent, at in zip(agents, offsets, strict=True)))
    for agent in agents:
        agent.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.agents", description=__doc__)
    parser.add_argument("--agents", type=int, default=10_000)
    parser.add_argument("--minutes", type=int, default=3)
    arguments = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, arguments.agents + SPARE_FILES), most))
    folder = Path(tempfile.mkdtemp(prefix="telemetry-bench-"))
    folder.chmod(0o755)
    minutes = [Minute() for _ in range(arguments.minutes)]
    try:
        site = Site(folder / "site", {"TELEMETRY_CONNECTIONS_PER_ADDRESS": "0"})  # all agents have this address
        try:
            site.manage("shell", "-c", CREATE_KEYS.replace("{count}", str(arguments.agents)))
            fields = measured_fields()
            started = time.monotonic()
            create_series(site.port, arguments.agents, fields)
            rate = arguments.agents * len(fields) / (time.monotonic() - started)
            add_row(
                f"creation of {len(fields)} series for each of {arguments.agents:,} agents", f"{rate:,.0f} series/s"
            )
            site.settle()
            used = site.cpu_seconds()
            asyncio.run(run(site.port, arguments.agents, minutes, fields))
            used = (site.cpu_seconds() - used) / (arguments.minutes * INTERVAL)
            memory = site.web_rss() / 2**20
        finally:
            site.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _report(minutes, arguments.agents, used, memory)


def _report(minutes: list[Minute], agents: int, cores: float, memory: float) -> None:
    joined = Minute([ms for minute in minutes for ms in minute.snapshots], failed=sum(part.failed for part in minutes))
    if joined.snapshots:
        times = ", ".join(f"p{share * 100:g} {joined.quantile(share):.1f}" for share in (0.5, 0.95, 0.99))
        counts = f"{len(joined.snapshots):,} snapshots, {joined.failed} failed"
        add_row(f"answer to a snapshot, {agents:,} agents at one a minute", f"{times} ms; {counts}")
    asked = sorted(ms for minute in minutes for ms in minute.configurations)
    if asked:
        add_row(
            "questions for the configuration, p95", f"{asked[int(0.95 * len(asked))]:.1f} ms; {len(asked):,} answers"
        )
    add_row("CPU of the site; memory of the web process", f"{cores:.2f} cores; {memory:.0f} MB")
    print_table("measurement", "result")


if __name__ == "__main__":
    sys.exit(main())
