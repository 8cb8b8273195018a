"""Servers to measure: the site as `manage.py up` starts it, and InfluxDB 1.x and VictoriaMetrics if installed; NATS."""

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

from telemetry_site.embedded.paths import DataFolder

ROOT = Path(__file__).resolve().parent.parent
KEY = "bench-key-0123456789abcdef0123456789abcdef"
HEADERS = (("X-Api-Key", KEY), ("Content-Type", "application/json"))
START_TIMEOUT = 120.0

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
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Server:
    """Server process with its own folder, stopped by its process ID."""

    port: int
    process: "subprocess.Popen[bytes]"

    def call(self, method: str, path: str, body: Any = None, key: str = KEY) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            headers = dict(HEADERS) | {"X-Api-Key": key}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            data = response.read()
            if response.status >= 300:
                raise RuntimeError(f"{method} {path}: {response.status} {data[:300]!r}")
            return json.loads(data) if data[:1] in (b"{", b"[") else None
        finally:
            connection.close()

    def wait_until_ready(self, path: str) -> None:
        deadline = time.monotonic() + START_TIMEOUT
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
        """Return the CPU seconds of the process tree since its start."""
        return sum(sum(child.cpu_times()[:4]) for child in self.tree())

    def tree(self) -> list[psutil.Process]:
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def pss(self) -> int:
        """Return the memory of the process tree in bytes; shared pages count once."""
        return sum(child.memory_full_info().pss for child in self.tree())


class Site(Server):
    """The site on embedded servers, with default settings except `overrides`."""

    def __init__(self, folder: Path, overrides: Mapping[str, str] | None = None) -> None:
        self.port, self.folder = free_port(), folder
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("TELEMETRY_", "DATABASE_", "REDIS_"))
        }
        self.environment = inherited | {
            "TELEMETRY_PORT": str(self.port),
            "TELEMETRY_DATA_DIR": str(folder),
            "TELEMETRY_API_KEY": KEY,
            "TELEMETRY_HOST_COLLECTOR": "off",
            **(overrides or {}),
        }
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "up"],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.wait_until_ready("/health")

    def settle(self) -> None:
        """Wait until worker and beat run and the site is idle."""
        deadline, before = time.monotonic() + START_TIMEOUT, -1.0
        while time.monotonic() < deadline:
            running = " ".join(" ".join(child.cmdline()) for child in self.tree())
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

    def web_process(self) -> psutil.Process:
        return next(child for child in self.tree() if "uvicorn" in " ".join(child.cmdline()))

    def web_rss(self) -> int:
        """Return the resident memory of the web process in bytes."""
        return int(self.web_process().memory_info().rss)

    @property
    def data_folder(self) -> DataFolder:
        return DataFolder(self.folder)


class InfluxDB(Server):
    """InfluxDB with package defaults: every write is fsynced to its log before the response."""

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
        self.wait_until_ready("/ping")
        self.call("POST", "/query?q=CREATE%20DATABASE%20bench")


class VictoriaMetrics(Server):
    """VictoriaMetrics with package defaults except the retention.

    Writes are acknowledged from memory and reach the disk seconds later.
    """

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
        self.wait_until_ready("/-/healthy")


class Nats(Server):
    """NATS with JetStream in a folder of its own."""

    @staticmethod
    def installed() -> bool:
        return shutil.which("nats-server") is not None

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.port = port or free_port()
        folder.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            ["nats-server", "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(folder)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.05)

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"
