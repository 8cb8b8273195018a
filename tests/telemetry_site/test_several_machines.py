"""Several installations of `manage.py up --only` that share one PostgreSQL and one Redis."""

import urllib.parse
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import requests

from telemetry_site.beat import LOCK_KEY
from telemetry_site.embedded.servers import EmbeddedServers
from tests.telemetry_site.site_process import UP, Site, wait_until

pytestmark = pytest.mark.slow
PASSWORD = "open sesame 17"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServers]:
    with EmbeddedServers(tmp_path_factory.mktemp("servers") / "data", durable=False) as running:
        yield running


@pytest.fixture(scope="module")
def machines(servers: EmbeddedServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Site]]:
    """A machine with web and beat, and one with web, worker and beat."""
    folder = tmp_path_factory.mktemp("machines")
    parameters = servers.data_folder.database
    variables = {
        "DATABASE_URL": f"postgresql:///{parameters['dbname']}?{urllib.parse.urlencode(parameters)}",
        "REDIS_URL": servers.data_folder.redis_url,
        "SECRET_KEY": "a-secret-key-that-both-machines-share-0123456789abc",
        "TELEMETRY_ADMIN_PASSWORD": PASSWORD,
        "TELEMETRY_EXPORTS_DIR": str(folder / "exports"),
        "TELEMETRY_HOST_COLLECTOR": "off",
    }
    sites = (
        Site(folder / "a", command=[*UP, "--only", "web,beat"], variables=variables),
        Site(folder / "b", command=[*UP, "--only", "worker, web,beat"], variables=variables),
    )
    for site in sites:
        site.start()
    yield sites
    for site in sites:
        site.stop()


def test_each_machine_runs_only_its_roles(machines: tuple[Site, Site]) -> None:
    first, second = machines
    assert {name for name in ("web", "worker", "beat", "postgres", "valkey") if first.child(name)} == {"web", "beat"}
    assert second.child("worker") is not None


def test_second_machine_creates_no_admin_key(machines: tuple[Site, Site]) -> None:
    first, second = machines
    assert not (second.data_dir / "api_key").exists()
    assert "created by another machine" in second.read_output()
    status, keys = second.request("GET", "/keys", key=first.key)
    assert status == 200
    assert [key["scope"] for key in keys["keys"]] == ["admin"]


def test_session_of_one_machine_is_valid_on_the_other(machines: tuple[Site, Site]) -> None:
    first, second = (f"http://127.0.0.1:{site.port}" for site in machines)
    with requests.Session() as browser:
        page = browser.get(f"{first}/login/", timeout=20)
        token = page.text.partition('name="csrfmiddlewaretoken" value="')[2].partition('"')[0]
        form = {"username": "admin", "password": PASSWORD, "csrfmiddlewaretoken": token}
        browser.post(f"{first}/login/", form, timeout=20).raise_for_status()
        for address in (second, first, second):
            assert browser.get(f"{address}/", timeout=20, allow_redirects=False).status_code == 200


def test_export_of_one_machine_is_downloaded_from_the_other(machines: tuple[Site, Site]) -> None:
    first, _ = machines  # the worker runs on the second
    now = datetime.now(UTC)
    point = {"timestamp": now.isoformat(), "metric_name": "temperature", "value": 21.5}
    assert first.request("POST", "/devices/kiln/telemetry", point)[0] == 200
    start, end = (now + timedelta(hours=hours) for hours in (-1, 1))
    body = {
        "device_ids": ["kiln"],
        "metric_names": ["temperature"],
        "start_time": start.isoformat(),
        "end_time": end.isoformat(),
        "format": "csv",
    }
    status, job = first.request("POST", "/export/jobs", body)
    assert status in (201, 202), job
    path = f"/export/jobs/{job['id']}"
    wait_until(lambda: first.request("GET", path)[1]["status"] == "done", 30, "the export is made")
    answer = requests.get(
        f"http://127.0.0.1:{first.port}/api/v1/telemetry{path}/download", headers={"X-Api-Key": first.key}, timeout=20
    )
    assert answer.status_code == 200, answer.text
    assert ",21.5," in answer.text


def test_beat_that_does_not_lead_takes_over_when_the_leader_ends(
    machines: tuple[Site, Site], servers: EmbeddedServers
) -> None:
    with psycopg.connect(**servers.data_folder.database, autocommit=True) as connection:

        def leaders() -> list[int]:
            sql = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND granted"
            return [pid for (pid,) in connection.execute(sql, (LOCK_KEY,))]

        wait_until(lambda: len(leaders()) == 1, 20, "one beat leads")
        (leader,) = leaders()
        first, second = machines
        ended = first.child("beat")
        assert ended is not None
        ended.kill()
        wait_until(lambda: len(leaders()) == 1, 20, "one beat leads")
        if leaders() == [leader]:  # the other one was the leader
            other = second.child("beat")
            assert other is not None
            other.kill()
        wait_until(lambda: leaders() not in ([], [leader]), 20, "another beat leads")


@pytest.fixture
def one_machine(tmp_path: Path) -> Site:
    return Site(tmp_path / "data")


@pytest.mark.parametrize(
    ("only", "message"),
    [
        ("web,queue", "--only='web,queue' is invalid: a list of web, worker, beat is accepted, such as web,beat"),
        ("", "--only='' is invalid: a list of web, worker, beat is accepted, such as web,beat"),
        ("worker", "DATABASE_URL, REDIS_URL, SECRET_KEY must be set, each to the same value on all machines"),
    ],
)
def test_unusable_roles_stop_the_start_with_one_line(one_machine: Site, only: str, message: str) -> None:
    one_machine.command = [*UP, "--only", only]
    with pytest.raises(AssertionError, match="invalid"):
        one_machine.start()
    assert message in one_machine.read_output()
    assert len(one_machine.read_output().splitlines()) == 1
