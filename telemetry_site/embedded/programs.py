"""The site's own processes, as `up` starts them."""

import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from telemetry_site.embedded.paths import Embedded
from telemetry_site.embedded.processes import Ending, spawn
from telemetry_site.env import BASE_DIR

GRACE = 10  # seconds in which the web process may finish what it has begun
LARGEST_WEBSOCKET_MESSAGE = 64 * 1024


@dataclass
class Program:
    """A Python process of the site."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    pass_fds: tuple[int, ...] = ()
    ending: Ending = field(default_factory=Ending)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = spawn(
            [sys.executable, *self.command],
            self.log,
            environment=self.environment,
            folder=BASE_DIR,
            pass_fds=self.pass_fds,
            death_signal=signal.SIGTERM,
        )


def provisioning(place: Embedded, environment: Mapping[str, str]) -> Program:
    return Program("provisioning", ["manage.py", "provision"], environment, place.log("provision"))


def web(place: Embedded, environment: Mapping[str, str], listening: int, behind_proxy: bool) -> Program:
    """The web process serves a socket that the supervisor holds: while it is started again, requests wait."""
    command = [
        *("-m", "uvicorn", "telemetry_site.asgi:application", "--fd", str(listening)),
        *(
            "--loop",
            "uvloop",
            "--http",
            "telemetry_site.write_coalescing:CorkedHttpToolsProtocol",
            "--no-access-log",
            "--log-level",
            "warning",
        ),
        *("--timeout-graceful-shutdown", str(GRACE), "--timeout-keep-alive", "75", "--no-server-header"),
        *("--ws-max-size", str(LARGEST_WEBSOCKET_MESSAGE), "--ws-per-message-deflate", "false"),
        "--proxy-headers" if behind_proxy else "--no-proxy-headers",
    ]
    return Program("web", command, environment, place.log("web"), pass_fds=(listening,))


def worker(place: Embedded, environment: Mapping[str, str]) -> Program:
    command = [
        *("-m", "celery", "-A", "telemetry_site", "worker", "--loglevel", "WARNING"),
        # Threads: the work is SQL and compiled code that lets go of the interpreter, and one process is small.
        *("--pool", "threads", "--concurrency", "4"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    ]
    return Program("worker", command, environment, place.log("worker"), ending=Ending(patience=5))


def beat(place: Embedded, environment: Mapping[str, str]) -> Program:
    command = [
        *("-m", "celery", "-A", "telemetry_site", "beat", "--loglevel", "WARNING"),
        *("--pidfile=", "--schedule", str(place.data_dir / "beat-schedule")),
    ]
    return Program("beat", command, environment, place.log("beat"))


def host_collector(place: Embedded, environment: Mapping[str, str], url: str, device_id: str) -> Program:
    """This machine's own measurements, sent through the HTTP API like those of any device."""
    given = {
        "TELEMETRY_URL": url,
        "TELEMETRY_API_KEY_FILE": str(place.host_collector_key_file),
        "TELEMETRY_DEVICE_ID": device_id,
    }
    command = ["-m", "ingest.collectors.host"]
    return Program("host collector", command, {**environment, **given}, place.log("host_collector"))
