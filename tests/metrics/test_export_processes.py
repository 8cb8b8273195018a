"""Exports in processes of their own: killed, cancelled, left, and measured."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from urllib.parse import quote, urlencode

import numpy as np
import psutil
import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from metrics.export import jobs
from metrics.export.job_files import export_folder
from metrics.models import ExportJob, Series
from metrics.storage.connection import connect
from metrics.storage.units import to_microseconds
from metrics.storage.write.writer import IncomingPoints, JournalEntry, writer
from telemetry_site.celery import app as celery
from telemetry_site.embedded import site_processes
from tests.conftest import API, ApiClient
from tests.metrics.day import END_TEXT, START, START_TEXT, at, merged, send
from tests.metrics.test_export_jobs import fetched, order, state
from tests.telemetry_site.site_process import ROOT, free_port, wait_until

MANY = 4_000_000
ROOM = 100 * 2**20  # bytes that an export may take over what the process has without
ASKED = {"device_ids": "device_001", "metric_names": "temperature", "start_time": START_TEXT, "end_time": END_TEXT}


@pytest.fixture
def many(admin: ApiClient) -> ApiClient:
    """A day of one series, a point every 21.6 ms."""
    send(admin, [at(0)])
    number = Series.objects.get().pk
    times = to_microseconds(START) + np.arange(MANY) * (86_400_000_000 // MANY)
    values = np.round(np.sin(np.arange(MANY) / 1000) * 20, 2)
    for low in range(0, MANY, 250_000):
        part = slice(low, low + 250_000)
        series = np.full(len(times[part]), number)
        writer().submit([IncomingPoints(series, times[part], values[part])], JournalEntry("test", 0.0, len(series)))
    merged()
    return admin


def environment() -> dict[str, str]:
    """What a process needs to work on the tests' database."""
    found = connection.settings_dict
    names = {"host": "HOST", "user": "USER", "password": "PASSWORD", "port": "PORT"}
    given = urlencode({libpq: found[django] for libpq, django in names.items() if found.get(django)})
    return {**os.environ, "DATABASE_URL": f"postgresql:///{quote(found['NAME'])}?{given}"}


@contextmanager
def running(*command: str) -> Iterator[psutil.Process]:
    process = subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, env=environment())
    try:
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


def worker() -> AbstractContextManager[psutil.Process]:
    return running(*site_processes.worker(settings.EMBEDDED, {}).command[1:])


@contextmanager
def web(many: ApiClient) -> Iterator[tuple[psutil.Process, ApiClient]]:
    port = free_port()
    program = site_processes.web(settings.EMBEDDED, {}, listening=0, behind_proxy=False).command
    command = [*program[1 : program.index("--fd")], *program[program.index("--fd") + 2 :]]
    with running(*command, "--port", str(port)) as process:
        caller = ApiClient(port, many.headers)
        wait_until(lambda: answers(port), 30, "the web process answers")
        yield process, caller


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def begun(caller: ApiClient, export_id: str) -> None:
    """Wait until some of it is written, and noted."""
    wait_until(lambda: state(caller, export_id)["rows"], 60, "the worker has written something")


def test_export_of_a_killed_worker_is_completed_identically(many, monkeypatch):
    whole, resumed = order(many), order(many)
    jobs._run_job(jobs.claim_job())  # undisturbed
    with worker() as process:
        celery.send_task("metrics.tasks.make_exports")
        begun(many, resumed)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    left = state(many, resumed)
    assert left["status"] == "running" and 0 < left["rows"] < MANY, left
    ExportJob.objects.filter(export_id=resumed).update(lease_until=timezone.now() - timedelta(seconds=1))
    with worker():
        celery.send_task("metrics.tasks.make_exports")
        wait_until(lambda: state(many, resumed)["status"] == "done", 60, "another worker ends it")
    assert state(many, resumed)["rows"] == MANY
    assert len(ExportJob.objects.get(export_id=resumed).files) == 2
    assert fetched(many, resumed) == fetched(many, whole)


def test_cancelled_export_ends_within_seconds(many):
    export_id = order(many)
    with worker():
        celery.send_task("metrics.tasks.make_exports")
        begun(many, export_id)
        assert many.post(f"export/jobs/{export_id}/cancel", {}).json["status"] == "cancelled"
        wait_until(lambda: not list(export_folder().glob(f"{export_id}.*")) and snapshots() == 0, 5, "the worker stops")
    assert state(many, export_id)["status"] == "cancelled"


def snapshots() -> int:
    with connect() as one:
        row = one.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()"
            " AND datname = current_database()"
        ).fetchone()
    assert row
    return row[0]


def ask(port: int, headers: dict[str, str]) -> socket.socket:
    """A stream that has begun, of which nothing more is read."""
    lines = [f"GET {API}/export/csv?{urlencode(ASKED)} HTTP/1.1", "Host: localhost"]
    client = socket.create_connection(("127.0.0.1", port), timeout=30)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    client.sendall("\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode())
    assert client.recv(1000).startswith(b"HTTP/1.1 200")
    return client


def test_snapshot_is_closed_when_the_client_disconnects(many):
    with web(many) as (_, caller):
        client = ask(caller.port, caller.headers)
        assert snapshots() == 1, "it waits for its reader"
        client.close()
        wait_until(lambda: snapshots() == 0, 5, "the snapshot is let go")
        assert caller.get(f"export/csv?{urlencode(ASKED)}").raw.count(b"\n") == MANY + 1


def test_stream_memory_is_bounded_for_a_slow_client_and_many_points(many):
    with web(many) as (process, caller):
        first = ASKED | {"end_time": (START + timedelta(minutes=1)).isoformat()}
        assert caller.get(f"export/csv?{urlencode(first)}").status == 200
        idle, most, over = process.memory_info().rss, [0], threading.Event()

        def watch() -> None:
            while not over.wait(0.02):
                most[0] = max(most[0], process.memory_info().rss)

        watcher = threading.Thread(target=watch)
        watcher.start()
        slow = [ask(caller.port, caller.headers) for _ in range(2)]
        size = len(caller.get(f"export/csv?{urlencode(ASKED)}").raw)
        for client in slow:
            client.close()
        over.set()
        watcher.join()
    assert size > ROOM
    assert most[0] - idle < ROOM, f"{(most[0] - idle) / 2**20:.0f} MB"
