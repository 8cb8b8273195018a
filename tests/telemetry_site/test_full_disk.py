"""A full disk: the cause is named, nothing acknowledged is lost, and the site recovers when space is freed."""

import http.client
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.test import override_settings

from ingest.rejected.inbox import rejected_inbox
from metrics.export import jobs
from metrics.storage import disk_space
from metrics.storage.connection import connect
from metrics.storage.disk_probe import probe_disk
from metrics.storage.errors import DiskFull
from tests.conftest import ApiClient, person, point, stamp
from tests.telemetry_site.site_process import NO_DIFFERENCE, PointLedger, Site, wait_until

DISK_SIZE = "300m"
CHUNK = bytes(64 * 1024)
FULL = "the disk of the database is full"
RECOVERY_TIMEOUT = 60.0


@pytest.fixture(autouse=True)
def known_state() -> Iterator[None]:
    yield
    disk_space.reset()


@contextmanager
def full_disk() -> Iterator[None]:
    """Let PostgreSQL report a full disk (SQLSTATE 53100) for each write of points, devices and sessions."""
    tables = ("metrics_young", "metrics_device", "django_session", "ingest_rejected")
    with connect() as connection:
        connection.execute(
            "CREATE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION"
            " 'could not extend file: No space left on device' USING ERRCODE = '53100'; END$$"
        )
        for table in tables:
            connection.execute(
                f"CREATE TRIGGER no_space BEFORE INSERT OR UPDATE ON {table}"
                " FOR EACH STATEMENT EXECUTE FUNCTION no_space()"
            )
        try:
            yield
        finally:
            connection.execute("DROP FUNCTION no_space CASCADE")


PATHS = {
    "fast lane": "devices/d/telemetry",
    "batch": "devices/d/telemetry/batch",
    "bulk": "bulk",
}


def body_for(path: str, device: str = "d") -> Any:
    body = {"batch": {"data_points": [point()]}, "bulk": {device: [point()]}}
    return next((content for name, content in body.items() if path.endswith(name)), point())


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_points_on_a_full_disk_are_rejected_at_once_with_the_cause(admin: ApiClient, path: str) -> None:
    assert admin.post(path, body_for(path)).status == 200
    with full_disk():
        started = time.monotonic()
        response = admin.post(path, body_for(path))
        assert time.monotonic() - started < 4  # a lost connection is awaited for 8 s
        assert (response.status, response.headers["Retry-After"]) == (503, "10")
        assert FULL in response.json["detail"]
    assert admin.post(path, body_for(path)).status == 200


def test_point_of_a_new_device_on_a_full_disk_is_rejected_with_the_cause(admin: ApiClient) -> None:
    with full_disk():
        response = admin.post("devices/new/telemetry", point())
        assert (response.status, FULL in response.json["detail"]) == (503, True)
        response = admin.post("devices", {"device_id": "other"})
        assert (response.status, FULL in response.json["detail"]) == (503, True)


def test_health_and_readiness_report_a_full_disk_until_points_are_stored(
    admin: ApiClient, anonymous: ApiClient
) -> None:
    admin.post("devices/d/telemetry", point())
    with full_disk():
        admin.post("devices/d/telemetry", point())
        ready = anonymous.get("/readyz")
        assert (ready.status, ready.json["database"], ready.json["disk"]) == (503, "up", "full")
        assert (anonymous.get("/health").status, anonymous.get("/health").json["status"]) == (503, "unhealthy")
        detailed = admin.get("/health/detailed")
        assert detailed.status == 503
        assert detailed.json["components"]["data_ingestion"] == {
            "status": "unhealthy",
            "detail": f"points cannot be stored: {FULL}",
        }
    admin.post("devices/d/telemetry", point())
    assert (anonymous.get("/readyz").status, anonymous.get("/readyz").json["disk"]) == (200, "free")
    assert anonymous.get("/health").status == 200


@pytest.mark.slow
def test_readiness_recovers_by_the_probe_without_a_write(admin: ApiClient, anonymous: ApiClient) -> None:
    admin.post("devices/d/telemetry", point())
    with full_disk():
        admin.post("devices/d/telemetry", point())
        assert probe_disk() and anonymous.get("/readyz").status == 503  # a write has failed a moment ago
    wait_until(lambda: anonymous.get("/readyz").status == 200, 15, "the probe finds free space")


@pytest.mark.slow
def test_pages_show_a_full_disk(admin: ApiClient, web_port: int) -> None:
    user = get_user_model().objects.create_superuser("disk", password="x")
    caller = person(web_port, user)
    admin.post("devices/d/telemetry", point())
    assert b"disk of the database" not in caller.get("/").raw
    with full_disk():
        admin.post("devices/d/telemetry", point())
        page = caller.get("/devices/")
        assert page.status == 200 and b"The disk of the database is full." in page.raw
        token = "a" * 32
        visitor = ApiClient(web_port, {"Cookie": f"{settings.CSRF_COOKIE_NAME}={token}", "X-CSRFToken": token})
        form = {"Content_Type": "application/x-www-form-urlencoded"}
        login = visitor.call("POST", "/login/", b"username=disk&password=x", **form)
        assert (login.status, FULL.encode() in login.raw) == (503, True)
    admin.post("devices/d/telemetry", point())
    assert b"disk of the database" not in caller.get("/").raw


def test_lost_connection_to_a_named_server_is_not_reported_as_a_full_disk() -> None:
    error = psycopg.OperationalError("server closed the connection unexpectedly")
    with override_settings(DATABASE_URL="postgres://elsewhere/x"):
        assert not isinstance(disk_space.storage_error(error, "gone"), DiskFull)


def test_rejected_points_wait_in_memory_for_free_space(admin: ApiClient) -> None:
    with full_disk():
        response = admin.post("devices/d/telemetry/batch", {"data_points": [point("m", None)]})
        assert response.status == 422
        rejected_inbox().flush()
        assert admin.get("rejected").json["rejected"] == []
    rejected_inbox().flush()
    assert [row["count"] for row in admin.get("rejected").json["rejected"]] == [1]


# --- a disk that is really full -----------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a small file system; skip the test where that is not permitted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_SIZE}", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.slow
def test_export_job_on_a_full_disk_fails_with_the_cause(admin: ApiClient, small_disk: Path, settings: Any) -> None:
    settings.EXPORTS_DIR = small_disk / "exports"
    admin.post("devices/d/telemetry/batch", {"data_points": [point("m", n, n) for n in range(1000)]})
    parameters = {"device_ids": ["d"], "metric_names": ["m"], "start_time": stamp(7200), "end_time": stamp()}

    def run_job() -> dict[str, Any]:
        export_id = admin.post("export/jobs", parameters).json["id"]
        jobs.run_pending_jobs()
        return dict(admin.get(f"export/jobs/{export_id}").json)

    other_files = fill(small_disk)
    job = run_job()
    assert (job["status"], job["detail"]) == ("failed", "the file cannot be written: No space left on device")
    other_files.unlink()
    assert (run_job()["status"], len(list(settings.EXPORTS_DIR.iterdir()))) == ("done", 1)


def fill(folder: Path) -> Path:
    """Write a file until the disk is full; return its path."""
    path = folder / "other files"
    with path.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(CHUNK)
        except OSError:
            return path


def get(site: Site, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=10)
    try:
        connection.request("GET", path, headers={"X-Api-Key": site.key})
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def send(site: Site) -> tuple[int, Any]:
    body = {"timestamp": datetime.now(UTC).isoformat(), "metric_name": "m", "value": 1}
    try:
        return site.request("POST", "/devices/d/telemetry", body, timeout=20)
    except (OSError, http.client.HTTPException):
        return 0, {}


@pytest.mark.slow
def test_site_on_a_full_disk_names_the_cause_and_recovers(small_disk: Path) -> None:
    site = Site(small_disk / "data")
    site.start()
    try:
        with PointLedger(site, "d") as ledger:
            ledger.wait_for_points()
            other_files = fill(small_disk)

            def is_reported() -> bool:
                fill(small_disk)
                status, response = send(site)
                return status == 503 and FULL in response["detail"]

            wait_until(is_reported, 60, "points are rejected with the cause")
            wait_until(lambda: get(site, "/readyz")[0] == 503, 10, "the site is not ready")
            status, body = get(site, "/health/detailed")
            assert status == 503 and FULL.encode() in body
            assert get(site, "/livez")[0] == 200
            other_files.unlink()
            wait_until(lambda: get(site, "/readyz")[0] == 200, RECOVERY_TIMEOUT, "the site is ready again")
            wait_until(lambda: send(site)[0] == 200, RECOVERY_TIMEOUT, "points are stored again")
            ledger.wait_for_points()
        assert ledger.differences() == NO_DIFFERENCE
        assert get(site, "/health")[0] == 200
    finally:
        site.stop()
