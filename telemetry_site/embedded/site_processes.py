"""The Python processes of the site that `manage.py up` starts."""

import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from telemetry_site.embedded.child_process import StopPolicy, spawn
from telemetry_site.embedded.paths import DataFolder
from telemetry_site.embedded.server_account import ServerAccount
from telemetry_site.env import BASE_DIR

SHUTDOWN_TIMEOUT = 10  # seconds in which the web process can finish open requests
MAX_WEBSOCKET_MESSAGE = 64 * 1024  # bytes
WEBSOCKET_PING_INTERVAL = 25  # seconds
WEBSOCKET_PING_TIMEOUT = 20  # seconds in which a client must answer a ping
KEEP_ALIVE_TIMEOUT = 75  # seconds
STATEMENT_TIMEOUT = 30  # seconds; limits the database statements of a request
WORKER_THREADS = 4
HOST_INTERVAL = 5  # seconds between two measurements of this machine


@dataclass
class SiteProcess:
    """A Python process of the site."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    account: ServerAccount | None = None  # None: the current account
    pass_fds: tuple[int, ...] = ()
    stop_policy: StopPolicy = field(default_factory=StopPolicy)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = spawn(
            [sys.executable, *self.command],
            self.log,
            account=self.account,
            environment=self.environment,
            folder=BASE_DIR,
            pass_fds=self.pass_fds,
            death_signal=signal.SIGTERM,
        )


@dataclass(frozen=True)
class Runtime:
    """The data folder, the environment and the account of the site's processes."""

    data_folder: DataFolder
    environment: Mapping[str, str]
    account: ServerAccount | None = None  # None: the current account

    def process(
        self, name: str, command: Sequence[str], variables: Mapping[str, str] | None = None, **options: Any
    ) -> SiteProcess:
        log = self.data_folder.log(name.replace(" ", "_"))
        return SiteProcess(name, command, {**self.environment, **(variables or {})}, log, self.account, **options)


def provisioning(runtime: Runtime) -> SiteProcess:
    """Return the process that migrates the database and creates admin and keys."""
    return runtime.process("provision", ["manage.py", "provision"])


def web(runtime: Runtime, listening: int, behind_proxy: bool) -> SiteProcess:
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
        *("--ws", "telemetry_site.websocket_protocol:WebSocketProtocol"),
        *("--ws-max-size", str(MAX_WEBSOCKET_MESSAGE), "--ws-per-message-deflate", "false"),
        *("--ws-ping-interval", str(WEBSOCKET_PING_INTERVAL), "--ws-ping-timeout", str(WEBSOCKET_PING_TIMEOUT)),
        "--proxy-headers" if behind_proxy else "--no-proxy-headers",
    ]
    timeout = runtime.environment.get("TELEMETRY_STATEMENT_TIMEOUT", str(STATEMENT_TIMEOUT))
    return runtime.process("web", command, {"TELEMETRY_STATEMENT_TIMEOUT": timeout}, pass_fds=(listening,))


def worker(runtime: Runtime) -> SiteProcess:
    """Return the Celery worker."""
    command = [
        *("-m", "celery", "-A", "telemetry_site", "worker", "--loglevel", "WARNING"),
        # Threads, since SQL and compiled code release the interpreter lock and one process uses less memory.
        *("--pool", "threads", "--concurrency", str(WORKER_THREADS)),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    ]
    return runtime.process("worker", command, stop_policy=StopPolicy(timeout=5))


def beat(runtime: Runtime) -> SiteProcess:
    """Return Celery beat, which schedules the periodic tasks."""
    command = [
        *("-m", "celery", "-A", "telemetry_site", "beat", "--loglevel", "WARNING"),
        *("--pidfile=", "--schedule", str(beat_schedule(runtime))),
    ]
    return runtime.process("beat", command)


def beat_schedule(runtime: Runtime) -> Path:
    """Return the file of beat, which contains pickles: root never reads the one that another account writes."""
    folder = runtime.data_folder.path
    return folder / "beat-schedule" if runtime.account is None else folder / "beat" / "schedule"


HOST_AGENT = """\
[agent]
url = {url}
node_id = {device}
key_file = {key_file}
site_key = {site_key}
interval = {interval}
queue_path = {queue}
websocket_port = 0
http_port = 0
statsd_port = 0
"""


def host_collector(runtime: Runtime, url: str, site_key: str) -> SiteProcess:
    """Return the process that measures this machine: an edge agent that sends through the HTTP API, as any device does.

    Writes its configuration. Its queue keeps what it measures while the web process or the database is down.
    """
    folder = runtime.data_folder
    configuration = folder.path / "host_agent.ini"
    text = HOST_AGENT.format(
        url=url,
        device=folder.host_device_id(),
        key_file=folder.host_collector_key_file.absolute(),
        site_key=site_key,
        interval=HOST_INTERVAL,
        queue=folder.host_agent_dir.absolute() / "queue.db",
    )
    configuration.write_text(text, encoding="utf-8")
    return runtime.process("host collector", ["-m", "ingest.agent", "run", "--config", str(configuration)])
