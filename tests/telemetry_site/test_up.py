"""`manage.py up` with real processes: start, kill, restart and stop."""

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from telemetry_site.embedded.paths import DataFolder
from telemetry_site.embedded.servers import EmbeddedServers
from tests.telemetry_site.site_process import (
    NO_DIFFERENCE,
    ROOT,
    UP,
    PointLedger,
    Site,
    clean_environment,
    free_port,
    wait_until,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("site") / "data")
    site.start()
    yield site
    site.stop()


@pytest.fixture
def install_site() -> Iterator[Callable[..., Site]]:
    """Return a function that creates installations; they are stopped after the test."""
    sites: list[Site] = []

    def install(*args: Any, **options: Any) -> Site:
        sites.append(Site(*args, **options))
        return sites[-1]

    yield install
    for site in sites:
        if site.process is not None and site.process.poll() is None:
            site.stop()


def running_processes(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def run_up(**variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        UP, cwd=ROOT, env=clean_environment(**variables), capture_output=True, text=True, timeout=60, check=False
    )


def test_fresh_clone_runs_keeps_acknowledged_points_and_stops(
    tmp_path: Path, install_site: Callable[..., Site]
) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    shutil.copytree(ROOT / "node_modules", clone / "node_modules", symlinks=True)  # what npm ci would install
    site = install_site(clone / "var", clone, ("make", "run", f"VENV={sys.prefix}"))
    site.start()
    first_output = site.read_output()
    assert (clone / "var" / "admin_password").read_text().strip() in first_output
    with PointLedger(site, "fresh") as ledger:
        ledger.wait_for_points(500)
        site.supervisor.send_signal(signal.SIGKILL)
    assert site.process is not None
    site.process.wait(timeout=20)

    site.start()
    assert ledger.differences() == NO_DIFFERENCE
    assert (clone / "var" / "admin_password").read_text().strip() not in site.read_output()
    assert str(clone / "var" / "admin_password") in site.read_output()
    processes = site.processes()
    started_at = time.monotonic()
    site.stop()
    assert time.monotonic() - started_at < 15
    assert running_processes(processes) == []


def test_printed_commands_store_a_point_and_read_it_back(running: Site) -> None:
    lines = running.read_output().replace("\\\n", "").splitlines()
    store, read = (line.strip() for line in lines if line.strip().startswith("curl "))
    for command in (store, read):
        completed = subprocess.run(
            ["bash", "-c", f"{command} --silent --fail-with-body"], capture_output=True, text=True
        )
        assert completed.returncode == 0, completed.stdout + completed.stderr
    assert "21.5" in completed.stdout


def test_host_collector_sends_points_from_the_start(running: Site) -> None:
    device = (running.data_dir / "host_device_id").read_text().strip()
    wait_until(
        lambda: "cpu_percent" in str(running.request("GET", f"/devices/{device}/metrics")[1]), 20, "the load arrives"
    )


def test_secret_files_are_readable_only_by_their_owner(running: Site) -> None:
    for name in ("admin_password", "api_key", "host_collector_key", "secret_key"):
        assert (running.data_dir / name).stat().st_mode & 0o777 == 0o600, name


@pytest.mark.parametrize("name", ["web", "postgres", "valkey", "worker", "beat", "host collector"])
def test_killed_process_restarts_and_no_acknowledged_point_is_lost(running: Site, name: str) -> None:
    with PointLedger(running, f"killed-{name.replace(' ', '-')}") as ledger:
        ledger.wait_for_points()
        victim = wait_until(lambda: running.child(name), 30, f"{name} runs")
        victim.kill()
        wait_until(lambda: (child := running.child(name)) and child.pid != victim.pid, 30, f"{name} runs again")
        ledger.wait_for_points()
    assert ledger.differences() == NO_DIFFERENCE
    assert running.request("POST", "/devices/one/telemetry", point(), key="unknown-" * 4)[0] == 401
    assert "was killed by SIGKILL; restarting" in running.read_output()


def test_merge_is_completed_after_its_worker_is_killed(running: Site) -> None:
    parameters: Any = DataFolder(running.data_dir).database
    with psycopg.connect(**parameters, autocommit=True) as database, PointLedger(running, "merging") as ledger:
        database.execute("SELECT pg_advisory_lock(4711)")
        database.execute(
            "CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NULL; END';"
            "CREATE TRIGGER pause AFTER INSERT ON metrics_block EXECUTE FUNCTION pause()"
        )
        paused_merge = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted"
        wait_until(lambda: database.execute(paused_merge).fetchone(), 30, "a merge is in its middle")
        victim = wait_until(lambda: running.child("worker"), 30, "worker runs")
        [(merged,)] = database.execute("SELECT seq FROM metrics_merged").fetchall()
        victim.kill()
        database.execute("SELECT pg_advisory_unlock(4711)")
        database.execute("DROP FUNCTION pause CASCADE")
        later_merge = f"SELECT 1 FROM metrics_merged WHERE seq > {merged}"
        wait_until(lambda: database.execute(later_merge).fetchone(), 30, "the next worker merges")
        ledger.wait_for_points()
    assert ledger.differences() == NO_DIFFERENCE


def test_site_starts_again_after_its_supervisor_is_killed(tmp_path: Path, install_site: Callable[..., Site]) -> None:
    site = install_site(tmp_path / "data")
    site.start()
    old_processes = site.processes()
    with PointLedger(site, "orphaned") as ledger:
        ledger.wait_for_points()
        site.supervisor.kill()
    assert site.process is not None
    site.process.wait(timeout=5)
    site.start()  # at once, while processes of the old site may still run
    assert running_processes(old_processes) == []
    assert ledger.differences() == NO_DIFFERENCE
    processes = site.processes()
    started_at = time.monotonic()
    assert site.stop(signal.SIGINT) == 0
    assert time.monotonic() - started_at < 15
    assert running_processes(processes) == []


@pytest.mark.parametrize("file_name", ["postgres", "admin_password"])
def test_stop_during_the_start_leaves_no_processes(tmp_path: Path, file_name: str) -> None:
    data_dir = tmp_path / "data"
    environment = clean_environment(TELEMETRY_DATA_DIR=str(data_dir), TELEMETRY_PORT=str(free_port()))
    process = subprocess.Popen(UP, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    wait_until((data_dir / file_name).exists, 30, f"{file_name} is made")
    processes = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Ctrl-C to stop the site" not in output
    assert running_processes(processes) == []


def test_two_installations_run_on_one_machine(running: Site, tmp_path: Path, install_site: Callable[..., Site]) -> None:
    second = install_site(
        tmp_path / "second", variables={"TELEMETRY_HOST_COLLECTOR": "off", "TELEMETRY_API_KEY": "k" * 32}
    )
    second.start()
    assert second.request("POST", "/devices/one/telemetry", point())[0] == 200
    assert running.request("GET", "/devices/one/metrics/count/latest")[0] == 404
    assert running.request("POST", "/devices/one/telemetry", point(), key=second.key)[0] == 401
    assert second.child("host collector") is None
    assert second.stop() == 0
    assert running.request("POST", "/devices/two/telemetry", point())[0] == 200


def point() -> dict[str, object]:
    return {"timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "metric_name": "count", "value": 1}


def test_configured_servers_are_used_and_none_is_started(tmp_path: Path, install_site: Callable[..., Site]) -> None:
    with EmbeddedServers(tmp_path / "servers", durable=False) as servers:
        sockets = servers.data_folder.run_dir
        site = install_site(
            tmp_path / "data",
            variables={
                "DATABASE_URL": f"postgresql:///telemetry?host={sockets}&user=telemetry",
                "REDIS_URL": servers.data_folder.redis_url,
            },
        )
        site.start()
        assert site.child("postgres") is None
        assert site.child("valkey") is None
        assert site.request("POST", "/devices/one/telemetry", point())[0] == 200
        assert site.stop() == 0


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("TELEMETRY_PORT", "eighty", "1 to 65535"),
        ("TELEMETRY_PORT", "70000", "1 to 65535"),
        ("TELEMETRY_HOST", "nowhere", "IP address"),
        ("TELEMETRY_HOST", "192.0.2.1", "IP address of this machine"),
        ("TELEMETRY_HOST_COLLECTOR", "maybe", "on or off"),
        ("TELEMETRY_API_KEY", "short", "22 printable characters"),
        ("TELEMETRY_DATA_DIR", "/dev/null/data", "folder"),
        ("DATABASE_URL", "mysql://localhost/site", "postgresql://"),
        ("DATABASE_URL", "postgresql://user:sesame@127.0.0.1:1/site", "database cannot be reached"),
        ("REDIS_URL", "http://localhost", "redis://"),
        ("REDIS_URL", "redis://:sesame@127.0.0.1:1/0", "Redis cannot be reached"),
    ],
)
def test_invalid_setting_is_named_in_one_line(tmp_path: Path, name: str, value: str, accepted: str) -> None:
    valid_variables = {"TELEMETRY_DATA_DIR": str(tmp_path / "data"), "TELEMETRY_PORT": str(free_port())}
    assert_rejected(run_up(**{**valid_variables, name: value}), name, accepted)


def assert_rejected(completed: subprocess.CompletedProcess[str], name: str, accepted: str) -> None:
    assert completed.returncode == 2, completed.stdout + completed.stderr
    assert len(completed.stderr.strip().splitlines()) == 1
    assert completed.stderr.startswith(name)
    assert accepted in completed.stderr
    assert "sesame" not in completed.stderr


def test_port_in_use_is_named_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert_rejected(
            run_up(TELEMETRY_PORT=port, TELEMETRY_DATA_DIR=str(tmp_path / "data")), "TELEMETRY_PORT", "free port"
        )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_data_folder_is_named_in_one_line(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    assert_rejected(run_up(TELEMETRY_DATA_DIR=str(closed / "data")), "TELEMETRY_DATA_DIR", "folder")
    assert_rejected(run_up(TELEMETRY_DATA_DIR=str(closed)), "TELEMETRY_DATA_DIR", "folder")


def test_data_folder_in_use_is_named_in_one_line(running: Site) -> None:
    second = run_up(TELEMETRY_DATA_DIR=str(running.data_dir), TELEMETRY_PORT=str(free_port()))
    assert_rejected(second, "TELEMETRY_DATA_DIR", f"process {running.supervisor.pid}")
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
    connection.request("GET", "/health")
    assert connection.getresponse().status == 200
    connection.close()
