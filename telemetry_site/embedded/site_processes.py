"""The Python processes of the site that `manage.py up` starts."""

import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from telemetry_site.embedded.child_process import StopPolicy, spawn
from telemetry_site.embedded.paths import DataFolder
from telemetry_site.env import BASE_DIR

SHUTDOWN_TIMEOUT = 10  # seconds in which the web process can finish open requests
MAX_WEBSOCKET_MESSAGE = 64 * 1024  # bytes
KEEP_ALIVE_TIMEOUT = 75  # seconds
STATEMENT_TIMEOUT = 30  # seconds; limits the database statements of a request
WORKER_THREADS = 4


@dataclass
class SiteProcess:
    """A Python process of the site."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    pass_fds: tuple[int, ...] = ()
    stop_policy: StopPolicy = field(default_factory=StopPolicy)
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


def provisioning(data_folder: DataFolder, environment: Mapping[str, str]) -> SiteProcess:
    """Return the process that migrates the database and creates admin and keys."""
    return SiteProcess("provisioning", ["manage.py", "provision"], environment, data_folder.log("provision"))


def web(data_folder: DataFolder, environment: Mapping[str, str], listening: int, behind_proxy: bool) -> SiteProcess:
    """Return the web process.

    `listening` is the descriptor of a socket that the supervisor keeps open, so that requests wait during a restart.
    """
    command = [
        *("-m", "uvicorn", "telemetry_site.asgi:application", "--fd", str(listening)),
        *(
            "--loop",
            "uvloop",
            "--http",
            "telemetry_site.http_protocol:HttpProtocol",
            "--no-access-log",
            "--log-level",
            "warning",
        ),
        *(
            "--timeout-graceful-shutdown",
            str(SHUTDOWN_TIMEOUT),
            "--timeout-keep-alive",
            str(KEEP_ALIVE_TIMEOUT),
            "--no-server-header",
        ),
        *("--ws-max-size", str(MAX_WEBSOCKET_MESSAGE), "--ws-per-message-deflate", "false"),
        "--proxy-headers" if behind_proxy else "--no-proxy-headers",
    ]
    environment = {"TELEMETRY_STATEMENT_TIMEOUT": str(STATEMENT_TIMEOUT), **environment}
    return SiteProcess("web", command, environment, data_folder.log("web"), pass_fds=(listening,))


def worker(data_folder: DataFolder, environment: Mapping[str, str]) -> SiteProcess:
    """Return the Celery worker."""
    command = [
        *("-m", "celery", "-A", "telemetry_site", "worker", "--loglevel", "WARNING"),
        # Threads, since SQL and compiled code release the interpreter lock and one process uses less memory.
        *("--pool", "threads", "--concurrency", str(WORKER_THREADS)),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    ]
    return SiteProcess("worker", command, environment, data_folder.log("worker"), stop_policy=StopPolicy(timeout=5))


def beat(data_folder: DataFolder, environment: Mapping[str, str]) -> SiteProcess:
    """Return Celery beat, which schedules the periodic tasks."""
    command = [
        *("-m", "celery", "-A", "telemetry_site", "beat", "--loglevel", "WARNING"),
        *("--pidfile=", "--schedule", str(data_folder.path / "beat-schedule")),
    ]
    return SiteProcess("beat", command, environment, data_folder.log("beat"))


def host_collector(data_folder: DataFolder, environment: Mapping[str, str], url: str, device_id: str) -> SiteProcess:
    """Return the process that sends measurements of this machine through the HTTP API, as any device does."""
    settings = {
        "TELEMETRY_URL": url,
        "TELEMETRY_API_KEY_FILE": str(data_folder.host_collector_key_file),
        "TELEMETRY_DEVICE_ID": device_id,
    }
    command = ["-m", "ingest.collectors.host"]
    return SiteProcess("host collector", command, {**environment, **settings}, data_folder.log("host_collector"))
