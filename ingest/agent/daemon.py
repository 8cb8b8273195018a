"""The agent's process: measures at an interval, queues, sends, and serves local programs."""

from __future__ import annotations

import http.client
import json
import logging
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any, Union

from ingest.agent import VERSION
from ingest.agent.clock_offset import ClockOffset
from ingest.agent.config import Config
from ingest.agent.local_input import LocalInput
from ingest.agent.machine_clock import MachineClock, rfc3339
from ingest.agent.measure import HostMeasurement, nested_snapshot
from ingest.agent.poster import TelemetryPoster
from ingest.agent.probes import Probes
from ingest.agent.queue import DiskFull, TelemetryQueue
from ingest.agent.sender import Sender
from ingest.agent.site_config import SiteConfig
from ingest.agent.statsd import StatsdMetrics, StatsdServer
from ingest.agent.updates import Updater
from ingest.agent.websocket import WebSocketServer

log = logging.getLogger(__name__)
LocalServer = Union[LocalInput, StatsdServer, WebSocketServer]
POLL_INTERVAL = 300.0  # seconds between two questions for the configuration, which cost the site ten snapshots
SETTLE_TIME = 1.0  # seconds before the first snapshot; rates over less say nothing


class Ending(Enum):
    """Why an agent has ended."""

    STOPPED = "stopped"
    FAILED = "failed"
    RECONFIGURED = "reconfigured"  # the site has set another configuration
    UPDATE = "update"  # a newer program is staged


class Agent:
    """Everything that the agent runs. `stop` may be called from any thread."""

    def __init__(self, config: Config, updater: Updater, clock: MachineClock) -> None:
        self._clock, self._updater = clock, updater
        self._site_config = SiteConfig(config)
        self._config = config = self._site_config.applied()
        self._stopped = threading.Event()
        self._ending = Ending.STOPPED
        self._poll_at = 0.0  # uptime at the next request to the site
        self.queue = TelemetryQueue(
            config.queue_path, config.max_size, config.max_bytes, config.max_age, clock=self._clock
        )
        self._offset = ClockOffset(self.queue, self._clock, config.max_clock_offset)
        self._poster = TelemetryPoster(
            config.url,
            timeout=config.timeout,
            key_file=config.key_file,
            wait=self._stopped.wait,
            on_date=self._offset.learn,
        )
        self.sender = Sender(self.queue, self._poster, self._offset, self._follow_site)
        self._host = HostMeasurement()
        self._statsd = StatsdMetrics()
        self._last_text = ""
        self.servers: dict[str, LocalServer] = {}

    def stop(self) -> None:
        """End `run`."""
        self._stopped.set()

    def _end(self, ending: Ending) -> None:
        self._ending = ending
        self._stopped.set()

    def run(self) -> Ending:
        """Measure and send until `stop` is called or the agent has to be started again."""
        self._start_servers()
        probes = Probes(self._config.probes, self._stopped.wait)
        sender = threading.Thread(target=self._send, name="sender", daemon=True)
        sender.start()
        log.info("telemetry agent %s measures %s every %g s", VERSION, self._config.node_id, self._config.interval)
        self._host.fields()  # the start values of rates
        for at in self._ticks():
            self._take_snapshot(at, probes)
        for server in self.servers.values():
            server.close()
        self._keep_inputs(probes)
        sender.join(self._config.timeout + 1)
        if not sender.is_alive():
            self._poster.close()
            self.queue.close()
        return self._ending

    def _send(self) -> None:
        try:
            self.sender.run(self._stopped.wait)
        except Exception:
            log.exception("the sender failed")
            self._end(Ending.FAILED)  # without a sender the process has to end, so that systemd restarts it

    def _follow_site(self) -> None:
        """Ask the site now and then for its configuration and program, and end if there is a new one."""
        now = self._clock.uptime()
        if now < self._poll_at:
            return
        self._poll_at = now + POLL_INTERVAL * random.uniform(0.8, 1.2)  # noqa: S311 - not for secrets
        try:
            if self._site_config.poll(self._poster.fetch):
                self._end(Ending.RECONFIGURED)
            elif self._updater.poll(self._poster.fetch):
                self._end(Ending.UPDATE)
        except (OSError, http.client.HTTPException) as error:
            log.debug("the site's configuration cannot be read: %s", error)

    def _ticks(self) -> Iterator[float]:
        """Yield the time of each snapshot at a steady interval, also while the machine's clock is set."""
        due = self._clock.uptime() + SETTLE_TIME
        while not self._stopped.wait(max(0.0, due - self._clock.uptime())):
            yield self._clock.time()
            late = self._clock.uptime() - due
            due += self._config.interval * (1 + max(0.0, late) // self._config.interval)

    def _take_snapshot(self, at: float, probes: Probes) -> None:
        snapshot = self._snapshot(
            at, self._host.fields(), probes.take(), self._statsd.take(), self._own_metrics(probes)
        )
        self._enqueue(snapshot)
        self._last_text = json.dumps(nested_snapshot(snapshot))
        stream = self.servers.get("websocket")
        if isinstance(stream, WebSocketServer):
            stream.broadcast(self._last_text)

    def _snapshot(self, at: float, *sources: Mapping[str, Any]) -> dict[str, Any]:
        snapshot: dict[str, Any] = {"node_id": "", "timestamp": ""}
        for fields in sources:
            snapshot.update(fields)
        snapshot.update({"node_id": self._config.node_id, "timestamp": rfc3339(at)})
        return snapshot

    def _enqueue(self, snapshot: dict[str, Any]) -> None:
        try:
            self.queue.enqueue(snapshot)
        except (DiskFull, ValueError) as error:
            log.error("a snapshot is lost: %s", error)

    def _keep_inputs(self, probes: Probes) -> None:
        """Queue what local programs and probes have given since the last snapshot."""
        fields = {**probes.take(), **self._statsd.take()}
        if fields:
            self._enqueue(self._snapshot(self._clock.time(), fields))

    def _own_metrics(self, probes: Probes) -> dict[str, Any]:
        """Return the agent's metrics of itself, stored with the device's."""
        stats = self.queue.get_stats()
        fields: dict[str, Any] = {
            "agent.version": VERSION,
            "agent.config.version": self._site_config.in_force.version,
            "agent.config.error": self._site_config.error or "none",
            "agent.update.error": self._updater.error or "none",
            "agent.queue.depth": stats["queue_size"],
            "agent.queue.bytes": stats["bytes"],
            "agent.queue.oldest_unsent_seconds": round(stats["oldest_unsent_seconds"], 1),
            "agent.queue.dropped": stats["dropped_total"],
            "agent.queue.salvaged": stats["salvaged"],
            "agent.queue.lost": stats["lost"],
            "agent.points_rejected": stats["points_rejected"],
            "agent.statsd.invalid": self._statsd.invalid,
            "agent.probes.failing": len(probes.failing),
            "agent.clock.corrected": self._offset.corrected,
        }
        fields.update({f"agent.queue.dropped.{reason}": count for reason, count in stats["dropped"].items()})
        if self._offset.offset is not None:
            fields["agent.clock.offset_seconds"] = round(self._offset.offset, 1)
        return fields

    def _start_servers(self) -> None:
        """Start the local servers; one whose port is taken is logged and left out."""
        starters: dict[str, tuple[int, Callable[[int], LocalServer]]] = {
            "websocket": (self._config.websocket_port, lambda port: WebSocketServer(port, lambda: self._last_text)),
            "http": (
                self._config.http_port,
                lambda port: LocalInput(port, self.queue, self._config.node_id, self._clock.time),
            ),
            "statsd": (self._config.statsd_port, lambda port: StatsdServer(port, self._statsd)),
        }
        for name, (port, start) in starters.items():
            if port:
                try:
                    self.servers[name] = start(port)
                except OSError as error:
                    log.error("port 127.0.0.1:%d for %s cannot be opened: %s", port, name, error.strerror or error)
