"""What is measured: the site as `manage.py up` starts it; InfluxDB 1.x and VictoriaMetrics where they are installed."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
KEY = "bench-key-0123456789abcdef0123456789abcdef"
HEADERS = (("X-Api-Key", KEY), ("Content-Type", "application/json"))
PATIENCE = 120.0

_INFLUX = """
reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
  dir = "{folder}/meta"
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
  query-log-enabled = false
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:{port}"
  log-enabled = false
[logging]
  level = "warn"
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class Server:
    """A server with its own folder, stopped by its own pid."""

    port: int
    process: "subprocess.Popen[bytes]"

    def call(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), dict(HEADERS))
            answer = connection.getresponse()
            data = answer.read()
            if answer.status >= 300:
                raise RuntimeError(f"{method} {path}: {answer.status} {data[:300]!r}")
            return json.loads(data) if data[:1] in (b"{", b"[") else None
        finally:
            connection.close()

    def await_answer(self, path: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.call("GET", path)
                return
            except (OSError, RuntimeError, http.client.HTTPException):
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.05)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    close = stop

    def cpu_seconds(self) -> float:
        """Of the whole tree, since it began."""
        return sum(sum(one.cpu_times()[:4]) for one in self.tree())

    def tree(self) -> list[psutil.Process]:
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def pss(self) -> int:
        """Bytes of memory of the tree, shared pages counted once."""
        return sum(one.memory_full_info().pss for one in self.tree())


class Site(Server):
    """The site on embedded servers, with default settings but for what is given."""

    def __init__(self, folder: Path, more: Mapping[str, str] | None = None) -> None:
        self.port, self.folder = free_port(), folder
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("TELEMETRY_", "DATABASE_", "REDIS_"))
        }
        self.environment = kept | {
            "TELEMETRY_PORT": str(self.port),
            "TELEMETRY_DATA_DIR": str(folder),
            "TELEMETRY_API_KEY": KEY,
            "TELEMETRY_HOST_COLLECTOR": "off",
            **(more or {}),
        }
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "up"],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.await_answer("/health")

    def settle(self) -> None:
        """Wait until worker and beat have begun and nothing is busy."""
        deadline, before = time.monotonic() + PATIENCE, -1.0
        while time.monotonic() < deadline:
            running = " ".join(" ".join(one.cmdline()) for one in self.tree())
            used = self.cpu_seconds()
            if "celery" in running and used - before < 0.2:
                return
            before = used
            time.sleep(1)

    def manage(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=ROOT,
            env=self.environment,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    def web_rss(self) -> int:
        """Resident bytes of the web process."""
        return max(one.memory_info().rss for one in self.tree() if "uvicorn" in " ".join(one.cmdline()))


class InfluxDB(Server):
    """Package defaults: every write is fsynced into its log before the answer."""

    @staticmethod
    def installed() -> bool:
        return shutil.which("influxd") is not None

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        settings = folder / "influxdb.conf"
        settings.write_text(_INFLUX.format(folder=folder, port=self.port, rpc=free_port()))
        self.process = subprocess.Popen(
            ["influxd", "-config", str(settings)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.await_answer("/ping")
        self.call("POST", "/query?q=CREATE%20DATABASE%20bench")


class VictoriaMetrics(Server):
    """Package defaults but for the retention: a write is answered from memory, on disk some seconds later."""

    @staticmethod
    def installed() -> bool:
        return shutil.which("victoria-metrics") is not None

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        words = [f"-storageDataPath={folder}", "-retentionPeriod=100y", "-influxSkipSingleField", "-loggerLevel=WARN"]
        self.process = subprocess.Popen(
            ["victoria-metrics", f"-httpListenAddr=127.0.0.1:{self.port}", *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.await_answer("/-/healthy")
