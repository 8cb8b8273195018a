"""Exports in separate processes: killed, cancelled, disconnected, and their memory."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from urllib.parse import quote, urlencode

import numpy as np
import psutil
import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from metrics.devices.csv_import_export import DEVICE_BATCH
from metrics.export import jobs
from metrics.export.byte_stream import MAX_STREAMS
from metrics.export.job_files import export_folder
from metrics.models import Device, ExportJob, Series
from metrics.storage.connection import connect
from metrics.storage.units import to_microseconds
from metrics.storage.write.group_commit import JournalEntry, writer
from metrics.storage.write.incoming import IncomingPoints
from telemetry_site.celery import app as celery
from telemetry_site.embedded import site_processes
from telemetry_site.embedded.site_processes import Runtime
from tests.conftest import API, ApiClient
from tests.metrics.sample_day import END_TEXT, START, START_TEXT, merge_all, point_at, send_points
from tests.metrics.test_export_jobs import create_export, download, get_export
from tests.telemetry_site.site_process import ROOT, free_port, wait_until

pytestmark = pytest.mark.slow

POINT_COUNT = 4_000_000
MEMORY_LIMIT = 100 * 2**20  # bytes that exports may add to the idle process
EXPORT_PARAMETERS = {
    "device_ids": "device_001",
    "metric_names": "temperature",
    "start_time": START_TEXT,
    "end_time": END_TEXT,
}
EXPORT_PATH = f"export/csv?{urlencode(EXPORT_PARAMETERS)}"


@pytest.fixture
def large_series(admin: ApiClient) -> ApiClient:
    """A day of one series, a point every 21.6 ms."""
    send_points(admin, [point_at(0)])
    number = Series.objects.get().pk
    times = to_microseconds(START) + np.arange(POINT_COUNT) * (86_400_000_000 // POINT_COUNT)
    values = np.round(np.sin(np.arange(POINT_COUNT) / 1000) * 20, 2)
    for low in range(0, POINT_COUNT, 250_000):
        part = slice(low, low + 250_000)
        series = np.full(len(times[part]), number)
        writer().submit([IncomingPoints(series, times[part], values[part])], JournalEntry("test", 0.0, len(series)))
    merge_all()
    return admin


def environment() -> dict[str, str]:
    """Return the environment of a process that uses the test database."""
    database = connection.settings_dict
    names = {"host": "HOST", "user": "USER", "password": "PASSWORD", "port": "PORT"}
    parameters = urlencode({libpq: database[django] for libpq, django in names.items() if database.get(django)})
    return {**os.environ, "DATABASE_URL": f"postgresql:///{quote(database['NAME'])}?{parameters}"}


@contextmanager
def run_process(*command: str) -> Iterator[psutil.Process]:
    process = subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, env=environment())
    try:
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


def run_worker() -> AbstractContextManager[psutil.Process]:
    return run_process(*site_processes.worker(Runtime(settings.EMBEDDED, {})).command[1:])


@contextmanager
def run_web(large_series: ApiClient) -> Iterator[tuple[psutil.Process, ApiClient]]:
    port = free_port()
    program = site_processes.web(Runtime(settings.EMBEDDED, {}), listening=0, behind_proxy=False).command
    command = [*program[1 : program.index("--fd")], *program[program.index("--fd") + 2 :]]
    with run_process(*command, "--port", str(port)) as process:
        caller = ApiClient(port, large_series.headers)
        wait_until(lambda: accepts_connections(port), 30, "the web process responds")
        yield process, caller


def accepts_connections(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for_first_rows(caller: ApiClient, export_id: str) -> None:
    """Wait until some rows are written and saved."""
    wait_until(lambda: get_export(caller, export_id)["rows"], 60, "the worker has written something")


def test_export_of_a_killed_worker_is_completed_identically(large_series, monkeypatch):
    undisturbed, resumed = create_export(large_series), create_export(large_series)
    jobs._run_job(jobs.claim_job())  # without interruption
    with run_worker() as process:
        celery.send_task("metrics.tasks.make_exports")
        wait_for_first_rows(large_series, resumed)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    interrupted = get_export(large_series, resumed)
    assert interrupted["status"] == "running" and 0 < interrupted["rows"] < POINT_COUNT, interrupted
    ExportJob.objects.filter(export_id=resumed).update(lease_until=timezone.now() - timedelta(seconds=1))
    with run_worker():
        celery.send_task("metrics.tasks.make_exports")
        wait_until(
            lambda: get_export(large_series, resumed)["status"] == "done", 60, "another worker completes the export"
        )
    assert get_export(large_series, resumed)["rows"] == POINT_COUNT
    assert len(ExportJob.objects.get(export_id=resumed).files) == 2
    assert download(large_series, resumed) == download(large_series, undisturbed)


def test_cancelled_export_ends_within_seconds(large_series):
    export_id = create_export(large_series)
    with run_worker():
        celery.send_task("metrics.tasks.make_exports")
        wait_for_first_rows(large_series, export_id)
        assert large_series.post(f"export/jobs/{export_id}/cancel", {}).json["status"] == "cancelled"
        wait_until(
            lambda: not list(export_folder().glob(f"{export_id}.*")) and count_snapshots() == 0, 5, "the worker stops"
        )
    assert get_export(large_series, export_id)["status"] == "cancelled"


def count_snapshots() -> int:
    with connect() as storage:
        row = storage.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()"
            " AND datname = current_database()"
        ).fetchone()
    assert row
    return row[0]


def open_stream(port: int, headers: dict[str, str], path: str = EXPORT_PATH) -> socket.socket:
    """Open an export and read only its first bytes."""
    lines = [f"GET {API}/{path} HTTP/1.1", "Host: localhost"]
    client = socket.create_connection(("127.0.0.1", port), timeout=30)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    client.sendall("\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode())
    assert client.recv(1000).startswith(b"HTTP/1.1 200")
    return client


def test_snapshot_is_closed_when_the_client_disconnects(large_series):
    with run_web(large_series) as (_, caller):
        client = open_stream(caller.port, caller.headers)
        assert count_snapshots() == 1, "the stream waits for its client"
        client.close()
        wait_until(lambda: count_snapshots() == 0, 5, "the snapshot is closed")
        assert caller.get(f"export/csv?{urlencode(EXPORT_PARAMETERS)}").raw.count(b"\n") == POINT_COUNT + 1


def test_slow_downloads_of_pages_hold_no_connection_of_other_requests(large_series, administrator):
    details = {"note": "x" * 2_000}
    devices = [Device(device_id=f"d{number:06d}", metadata=details) for number in range(4 * DEVICE_BATCH)]
    Device.objects.bulk_create(devices, batch_size=1_000)
    with run_web(large_series) as (_, caller), contextlib.ExitStack() as clients:
        for path in [EXPORT_PATH] * (MAX_STREAMS - 2) + ["devices.csv"] * 2:
            clients.enter_context(open_stream(caller.port, administrator.headers, path))
        assert caller.get(EXPORT_PATH).status == 503, "all of them are still being sent"
        with ThreadPoolExecutor(4) as pool:
            responses = list(pool.map(lambda _: caller.get("devices?limit=1"), range(8)))
        assert {response.status for response in responses} == {200}


def test_stream_memory_is_bounded_for_a_slow_client_and_many_points(large_series):
    with run_web(large_series) as (process, caller):
        first = EXPORT_PARAMETERS | {"end_time": (START + timedelta(minutes=1)).isoformat()}
        assert caller.get(f"export/csv?{urlencode(first)}").status == 200
        idle_memory, peak, stopped = process.memory_info().rss, [0], threading.Event()

        def measure_memory() -> None:
            while not stopped.wait(0.02):
                peak[0] = max(peak[0], process.memory_info().rss)

        watcher = threading.Thread(target=measure_memory)
        watcher.start()
        slow_clients = [open_stream(caller.port, caller.headers) for _ in range(2)]
        size = len(caller.get(f"export/csv?{urlencode(EXPORT_PARAMETERS)}").raw)
        for client in slow_clients:
            client.close()
        stopped.set()
        watcher.join()
    assert size > MEMORY_LIMIT
    assert peak[0] - idle_memory < MEMORY_LIMIT, f"{(peak[0] - idle_memory) / 2**20:.0f} MB"
