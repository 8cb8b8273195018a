"""A site run by `manage.py up` in its own processes, and a ledger of the points that it acknowledged."""

import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
UP = (sys.executable, "manage.py", "up")
START_TIMEOUT = 60.0
WINDOW = timedelta(minutes=10)
# Text in the command line of each process.
COMMAND_MARKS = {
    "web": "uvicorn",
    "worker": "worker",
    "beat": "beat",
    "host collector": "ingest.agent",
    "postgres": "pginstall18/bin/postgres",
    "valkey": "valkey-server",
}


def wait_until(condition: Callable[[], Any], timeout: float, description: str) -> Any:
    """Return the first true result of `condition`; fail with `description` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {timeout} s: {description}"
        threading.Event().wait(0.05)
    return result


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clean_environment(**variables: str) -> dict[str, str]:
    """Return the environment without settings of a site, plus `variables`."""
    settings = ("TELEMETRY_", "DATABASE_URL", "REDIS_URL", "SECRET_KEY", "DJANGO_", "MAKE", "MFLAGS")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(settings)}
    return {**inherited, "PYTHONUNBUFFERED": "1", **variables}


@dataclass
class Site:
    """An installation: its folder, its port and its process."""

    data_dir: Path
    folder: Path = ROOT
    command: Sequence[str] = UP
    variables: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self.output = self.data_dir.parent / f"{self.data_dir.name}.out"
        site_variables = {"TELEMETRY_PORT": str(self.port), "TELEMETRY_DATA_DIR": str(self.data_dir), **self.variables}
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=clean_environment(**site_variables),
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )
        wait_until(self._started, START_TIMEOUT, f"the site starts: {self.output.read_text()}")

    def _started(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.read_output()
        return "Ctrl-C to stop the site" in self.read_output()

    def read_output(self) -> str:
        return self.output.read_text()

    @property
    def key(self) -> str:
        return self.variables.get("TELEMETRY_API_KEY") or (self.data_dir / "api_key").read_text().strip()

    @property
    def supervisor(self) -> psutil.Process:
        return psutil.Process(int((self.data_dir / "lock").read_text()))

    def processes(self) -> list[psutil.Process]:
        return [self.supervisor, *self.supervisor.children(recursive=True)]

    def child(self, name: str) -> psutil.Process | None:
        for process in self.supervisor.children():
            try:
                if (
                    any(COMMAND_MARKS[name] in part for part in process.cmdline())
                    and process.status() != psutil.STATUS_ZOMBIE
                ):
                    return process
            except psutil.NoSuchProcess:
                continue
        return None

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal to the supervisor, wait, and return the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.supervisor.send_signal(number)
        return self.process.wait(timeout=20)

    def request(self, method: str, path: str, body: Any = None, timeout: float = 30, key: str = "") -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            headers = {"X-Api-Key": key or self.key, "Content-Type": "application/json"}
            connection.request(method, f"/api/v1/telemetry{path}", json.dumps(body) if body else None, headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b"null")
        finally:
            connection.close()


class PointLedger:
    """Sends points continuously and records which were sent and which were acknowledged."""

    BATCH = 5

    def __init__(self, site: Site, device: str) -> None:
        self.site, self.device = site, device
        self.start_time = datetime.now(UTC) - timedelta(hours=1)
        self.sent: dict[datetime, float] = {}
        self.acknowledged: dict[datetime, float] = {}
        self._numbers = itertools.count()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._send_all, daemon=True)

    def __enter__(self) -> "PointLedger":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self._thread.join(timeout=30)

    def wait_for_points(self, count: int = 50) -> None:
        """Wait until `count` more points are acknowledged."""
        target = len(self.acknowledged) + count
        wait_until(lambda: len(self.acknowledged) >= target, 30, f"{count} more points are acknowledged")

    def _send_all(self) -> None:
        while not self._stopped.is_set():
            numbers = itertools.islice(self._numbers, self.BATCH)
            batch = {self.start_time + timedelta(milliseconds=100 * number): number / 8 for number in numbers}
            self.sent |= batch
            points = [
                {"timestamp": moment.isoformat(), "metric_name": "count", "value": value}
                for moment, value in batch.items()
            ]
            try:
                status, response = self.site.request(
                    "POST", f"/devices/{self.device}/telemetry/batch", {"data_points": points}, timeout=10
                )
            except (OSError, http.client.HTTPException):  # stored or not: only `sent` has these points
                continue
            if status == 200 and not response.get("errors"):
                self.acknowledged |= batch

    def differences(self) -> dict[str, int]:
        """Count the differences between the stored and the recorded points."""
        points = self._read_stored()
        stored = dict(points)
        return {
            "lost": len(self.acknowledged.keys() - stored.keys()),
            "phantom": len(stored.keys() - self.sent.keys()),
            "wrong": sum(self.sent.get(moment, value) != value for moment, value in points),
            "duplicate": sum(count - 1 for count in Counter(moment for moment, _ in points).values()),
        }

    def _read_stored(self) -> list[tuple[datetime, float]]:
        """Read all stored points, in windows small enough to be returned completely."""
        points = []
        start, last = self.start_time - WINDOW, max(self.sent) + WINDOW
        while start < last:
            window = f"start_time={_format_time(start)}&end_time={_format_time(start + WINDOW)}"
            path = f"/devices/{self.device}/metrics/count/range?{window}"
            status, response = wait_until(lambda path=path: self._request_unless_busy(path), 30, "points can be read")
            assert status == 200, response
            points += [(datetime.fromisoformat(p["timestamp"]), p["value"]) for p in response["data_points"]]
            start += WINDOW
        return points

    def _request_unless_busy(self, path: str) -> tuple[int, Any] | None:
        status, response = self.site.request("GET", path)
        return None if status == 503 else (status, response)


NO_DIFFERENCE = {"lost": 0, "phantom": 0, "wrong": 0, "duplicate": 0}


def _format_time(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
