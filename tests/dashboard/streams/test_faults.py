"""Live streams through faults: after each of them the series of a client equals the stored range, point for point.

The client is the one of docs/integrate/streaming.md. Points are written more slowly than max_frequency, so that the
stream leaves none out.
"""

import contextlib
import http.client
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
import redis

from telemetry_site.embedded.paths import DataFolder
from tests.conftest import ApiClient
from tests.dashboard.streams.stream_client import closed_with, open_stream, subscribe
from tests.dashboard.streams.streaming_examples import Proxy, PythonClient
from tests.telemetry_site.site_process import ROOT, Site, clean_environment, free_port, wait_until

pytestmark = pytest.mark.slow

KEY = "a-key-of-the-tests-of-live-streams-0123456789"
INTERVAL = 0.25  # seconds between two points
RECOVERY_TIME = 30.0  # seconds


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    variables = {"TELEMETRY_API_KEY": KEY, "TELEMETRY_HOST_COLLECTOR": "off"}
    site = Site(tmp_path_factory.mktemp("faults") / "site", variables=variables)
    site.start()
    try:
        yield site
    finally:
        site.stop()


class Writer:
    """Writes a point after the other, each again until it is acknowledged."""

    def __init__(self, site: Site, metric: str) -> None:
        self._site, self._metric = site, metric
        self.started_at = datetime.now(UTC)
        self.written: dict[datetime, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(30)

    def _run(self) -> None:
        while not self._ended.is_set():
            moment, value = datetime.now(UTC), float(len(self.written))
            point = {"timestamp": moment.isoformat(), "metric_name": self._metric, "value": value}
            while not self._send(point):
                self._ended.wait(INTERVAL)
            self.written[moment] = value
            self._ended.wait(INTERVAL)

    def _send(self, point: dict[str, object]) -> bool:
        try:
            return self._site.request("POST", "/devices/demo/telemetry", point, timeout=5)[0] == 200
        except (OSError, http.client.HTTPException, ValueError):
            return False

    def wait_for_points(self, count: int) -> None:
        target = len(self.written) + count
        wait_until(lambda: len(self.written) >= target, 60, f"{count} more points are acknowledged")

    def stored(self) -> dict[datetime, float]:
        """Read the range of the series through the API."""
        end = datetime.now(UTC) + timedelta(minutes=1)
        start, last = (moment.isoformat().replace("+00:00", "Z") for moment in (self.started_at, end))
        path = f"/devices/demo/metrics/{self._metric}/range?start_time={start}&end_time={last}"
        status, body = self._site.request("GET", path)
        assert status == 200, body
        return {datetime.fromisoformat(point["timestamp"]): point["value"] for point in body["data_points"]}


class Stage:
    """A writer and a client behind a proxy."""

    def __init__(self, site: Site, writer: Writer, client: PythonClient, proxy: Proxy, metric: str) -> None:
        self.site, self.writer, self.client, self.proxy, self.metric = site, writer, client, proxy, metric

    def wait_until_live(self, timeout: float = RECOVERY_TIME) -> None:
        """Wait until the client has a point that was written after this call."""
        before = len(self.writer.written) + 1
        wait_until(
            lambda: any(value > before for value in self.client.series(self.metric).values()),
            timeout,
            f"the stream goes on: {self.client.lines[-3:]}",
        )

    def expect_no_gap(self) -> None:
        """Stop writing; the client has every stored point since that of its snapshot, and no other.

        It may lack values that the stream says it skipped: those that were committed while it was delayed.
        """
        self.writer.__exit__()
        snapshot_at = min(self.client.series(self.metric))
        stored = {moment: value for moment, value in self.writer.stored().items() if moment >= snapshot_at}
        assert len(stored) > len(self.writer.written) / 2, "the client started with the writer"

        def differences() -> list[tuple[datetime, float]]:
            received = self.client.series(self.metric).items()
            missing, foreign = stored.items() - received, received - stored.items()
            return sorted(foreign or (missing if len(missing) > self.client.skipped(self.metric) else ()))

        try:
            wait_until(lambda: not differences(), 10, "the series are equal")
        except AssertionError:
            pytest.fail(f"{differences()[:5]} of {len(stored)}; {self.client.lines[-3:]}")


@contextlib.contextmanager
def stage(site: Site, folder: Path, metric: str) -> Iterator[Stage]:
    proxy = Proxy(site.port)
    client = PythonClient(folder, proxy.url, site.key)
    try:
        with Writer(site, metric) as writer:
            running = Stage(site, writer, client, proxy, metric)
            running.wait_until_live()
            yield running
    finally:
        client.stop()
        proxy.stop()


def test_series_equals_the_stored_range_after_the_connection_was_cut(running: Site, tmp_path: Path) -> None:
    with stage(running, tmp_path, "cut") as live:
        for seconds in (30, 2):
            live.proxy.cut()
            live.writer.wait_for_points(int(seconds / INTERVAL))
            live.proxy.mend()
            live.wait_until_live()
        live.expect_no_gap()


def test_stream_continues_after_redis_is_flushed(running: Site, tmp_path: Path) -> None:
    with stage(running, tmp_path, "flush") as live:
        with redis.Redis.from_url(DataFolder(running.data_dir).redis_url) as client:
            client.flushall()
        live.wait_until_live()
        live.expect_no_gap()


@pytest.mark.parametrize("server", ["valkey", "postgres"])
def test_stream_recovers_when_a_server_is_killed(running: Site, tmp_path: Path, server: str) -> None:
    with stage(running, tmp_path, f"killed_{server}") as live:
        killed = running.child(server)
        assert killed is not None
        killed.kill()
        wait_until(lambda: _other_child(running, server, killed.pid), RECOVERY_TIME, f"{server} runs again")
        live.wait_until_live()
        live.expect_no_gap()


def test_streams_end_with_1011_and_go_on_when_postgresql_hangs_for_a_while(running: Site, tmp_path: Path) -> None:
    with stage(running, tmp_path, "hanging") as live:
        server = running.child("postgres")
        assert server is not None
        hanging = [server, *server.children(recursive=True)]
        viewer = ApiClient(running.port, {"X-Api-Key": running.key})
        with open_stream(viewer, subscribe(viewer)) as socket:
            for process in hanging:
                process.suspend()
            try:
                error = closed_with(socket, timeout=90)
            finally:
                for process in hanging:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.resume()
            assert (error["code"], error["retry"]) == (1011, True)
        live.wait_until_live()
        live.expect_no_gap()


def _other_child(site: Site, name: str, pid: int) -> bool:
    child = site.child(name)
    return child is not None and child.pid != pid


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_stream_resumes_when_the_web_process_is_restarted(
    running: Site, tmp_path: Path, number: signal.Signals
) -> None:
    with stage(running, tmp_path, f"restart_{number}") as live:
        web = running.child("web")
        assert web is not None
        web.send_signal(number)
        wait_until(lambda: _other_child(running, "web", web.pid), RECOVERY_TIME, "the web process runs again")
        live.wait_until_live()
        live.expect_no_gap()


@contextlib.contextmanager
def second_process(site: Site) -> Iterator[int]:
    """Another web process of the same site; yields its port."""
    port = free_port()
    variables = {**site.variables, "TELEMETRY_DATA_DIR": str(site.data_dir), "TELEMETRY_PORT": str(site.port)}
    command = [
        *(sys.executable, "-m", "uvicorn", "telemetry_site.asgi:application", "--port", str(port)),
        *("--ws", "telemetry_site.websocket_protocol:WebSocketProtocol"),
    ]
    process = subprocess.Popen(command, cwd=ROOT, env=clean_environment(**variables), start_new_session=True)
    try:
        wait_until(lambda: _answers(port), 30, "the second web process answers")
        yield port
    finally:
        process.kill()
        process.wait(10)


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def test_stream_resumes_in_another_web_process(running: Site, tmp_path: Path) -> None:
    with stage(running, tmp_path, "two") as live:
        with second_process(running) as port:
            live.proxy.cut()
            live.proxy.target = port
            live.writer.wait_for_points(4)
            live.proxy.mend()
            live.wait_until_live()  # what one process commits reaches the clients of the other
        live.proxy.target = running.port
        live.wait_until_live()
        live.expect_no_gap()
