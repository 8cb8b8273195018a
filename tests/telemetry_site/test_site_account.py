"""The account of web, worker, beat and host collector when root starts the site."""

import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.telemetry_site.site_process import ROOT, UP, Site, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root starts processes under another account"),
]
SITE_PROCESSES = ("web", "worker", "beat", "host collector")
WARNING = "Warning: web, worker, beat and host collector run as root"


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A data folder below folders that every account can enter, unlike tmp_path."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder / "data"
    shutil.rmtree(folder)


@pytest.fixture
def command() -> list[str]:
    """`manage.py up` with an interpreter that `nobody` can execute, and the libraries of this one."""
    packages = Path(importlib.util.find_spec("django").origin).parents[1]  # type: ignore[union-attr, arg-type]
    nobody = pwd.getpwnam("nobody")
    check = f"import django, sys; sys.exit(sys.version_info[:2] != {tuple(sys.version_info[:2])})"
    for interpreter in (sys.executable, "/usr/bin/python3"):
        try:
            options: dict[str, Any] = {"cwd": ROOT, "user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            subprocess.run(
                [interpreter, "-c", check],
                check=True,
                env={"PYTHONPATH": str(packages)},
                capture_output=True,
                **options,
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        return ["env", f"PYTHONPATH={packages}", interpreter, *UP[1:]]
    pytest.skip("no interpreter of this version can be executed by `nobody`")


def account_names(site: Site) -> dict[str, str]:
    processes = {name: wait_until(partial(site.child, name), 30, f"{name} runs") for name in SITE_PROCESSES}
    return {name: process.username() for name, process in processes.items()}


def create_export(site: Site) -> str:
    now = datetime.now(UTC)
    body = {"device_ids": ["pump"], "metric_names": ["load"], "format": "csv"}
    body |= {"start_time": (now - timedelta(hours=1)).isoformat(), "end_time": (now + timedelta(hours=1)).isoformat()}
    status, job = site.request("POST", "/export/jobs", body)
    assert status == 202, job
    path = f"/export/jobs/{job['id']}"
    wait_until(lambda: site.request("GET", path)[1]["status"] == "done", 60, "the export is done")
    return str(job["id"])


def downloaded_rows(site: Site, export: str) -> list[str]:
    command = ["curl", "-sS", "--fail-with-body", "-H", f"X-Api-Key: {site.key}"]
    url = f"http://127.0.0.1:{site.port}/api/v1/telemetry/export/jobs/{export}/download"
    completed = subprocess.run([*command, url], capture_output=True, text=True, check=True)
    return [",".join(line.split(",")[1:4]) for line in completed.stdout.splitlines()[1:]]


def store_point(site: Site) -> None:
    point = {"timestamp": datetime.now(UTC).isoformat(), "metric_name": "load", "value": 0.5}
    assert site.request("POST", "/devices/pump/telemetry", point)[0] == 200


def make_files_of_root(data_dir: Path) -> None:
    """Give the files to root, as versions did whose processes ran as root."""
    for path in [data_dir / "exports", *(data_dir / "exports").iterdir(), data_dir / "host_device_id"]:
        os.chown(path, 0, 0)
    os.chown(data_dir / "host_collector_key", 0, 0)


def test_processes_run_under_the_account_of_the_servers(data_dir: Path, command: list[str]) -> None:
    site = Site(data_dir, command=command)
    site.start()
    try:
        account = pwd.getpwuid((data_dir / "postgres").stat().st_uid).pw_name
        assert account != "root"
        assert account_names(site) == dict.fromkeys(SITE_PROCESSES, account)
        assert WARNING not in site.read_output()
        store_point(site)
        export = create_export(site)
        assert downloaded_rows(site, export) == ["pump,load,0.5"]
        for name in ("secret_key", "api_key", "admin_password"):
            status = (data_dir / name).stat()
            assert (status.st_uid, status.st_mode & 0o777) == (0, 0o600), name

        site.stop()
        make_files_of_root(data_dir)
        site.start()
        assert account_names(site) == dict.fromkeys(SITE_PROCESSES, account)
        assert downloaded_rows(site, export) == ["pump,load,0.5"]
        assert downloaded_rows(site, create_export(site)) == ["pump,load,0.5"]
        device = (data_dir / "host_device_id").read_text().strip()
        path = f"/devices/{device}/metrics"
        wait_until(lambda: "cpu_percent" in str(site.request("GET", path)[1]), 30, "the host collector sends points")
    finally:
        site.stop()


def test_processes_run_as_root_with_a_warning_if_the_account_cannot_enter_the_data_folder(
    tmp_path: Path, command: list[str]
) -> None:
    (tmp_path / "closed").mkdir(mode=0o700)
    site = Site(tmp_path / "closed" / "data", command=command)
    site.start()
    try:
        assert account_names(site) == dict.fromkeys(SITE_PROCESSES, "root")
        assert site.read_output().count(WARNING) == 1
        assert not (site.data_dir / "beat").exists()
        store_point(site)
        assert downloaded_rows(site, create_export(site)) == ["pump,load,0.5"]
    finally:
        site.stop()
