"""The embedded servers: accounts, permissions, restarts and stale files."""

import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from telemetry_site.embedded.paths import SOCKET_PATH_LIMIT, DataFolder
from telemetry_site.embedded.postgres import CannotStart
from telemetry_site.embedded.server_account import ServerAccount
from telemetry_site.embedded.servers import EmbeddedServers
from telemetry_site.env import InvalidSetting
from tests.telemetry_site.site_process import ROOT, wait_until

pytestmark = pytest.mark.slow

START = "import sys; from pathlib import Path; from telemetry_site.embedded.servers import EmbeddedServers; "
START += "EmbeddedServers(Path(sys.argv[1])).start(); print('ready', flush=True); sys.stdin.read()"
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root starts servers under another account")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServers]:
    with EmbeddedServers(tmp_path_factory.mktemp("servers") / "data", durable=False) as running_servers:
        yield running_servers


def query_value(servers: EmbeddedServers, statement: str, **parameters: str) -> object:
    with psycopg.connect(**(servers.data_folder.database | parameters), autocommit=True) as connection:  # type: ignore[arg-type]
        return connection.execute(statement).fetchone()[0]  # type: ignore[index, arg-type]


@pytest.fixture
def unrelated_process() -> Iterator[subprocess.Popen[bytes]]:
    """A process of this user that has nothing to do with the site."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def test_database_role_of_the_site_is_not_a_superuser(servers: EmbeddedServers) -> None:
    assert query_value(servers, "SELECT current_user") == "telemetry"
    assert query_value(servers, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False


def test_servers_open_no_tcp_port(servers: EmbeddedServers) -> None:
    assert query_value(servers, "SHOW listen_addresses") == ""
    assert redis.Redis.from_url(servers.data_folder.redis_url).config_get("port") == {"port": "0"}


def test_servers_are_durable_by_default(tmp_path: Path) -> None:
    with EmbeddedServers(tmp_path / "data") as durable:
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            assert query_value(durable, f"SHOW {setting}") == "on"


@AS_ROOT
@pytest.mark.parametrize(("role", "accepted"), [("telemetry", True), ("postgres", False)])
def test_account_of_the_servers_can_log_in_as_the_site_but_not_as_superuser(
    servers: EmbeddedServers, role: str, accepted: bool
) -> None:
    account = pwd.getpwuid(servers.data_folder.postgres_dir.stat().st_uid)
    assert account.pw_uid != os.geteuid()
    # The interpreter starts as root and drops its privileges before it connects.
    script = f"import os, psycopg; os.chdir({str(servers.data_folder.run_dir)!r}); os.setgroups([]); "
    script += f"os.setgid({account.pw_gid}); os.setuid({account.pw_uid}); "
    script += f"psycopg.connect(host='/proc/self/cwd', user={role!r}, dbname='telemetry')"
    completed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ("Peer authentication failed" not in completed.stderr) == accepted, completed.stderr
    assert (completed.returncode == 0) == accepted, completed.stderr


@AS_ROOT
def test_files_that_root_writes_for_the_account_replace_symbolic_links(tmp_path: Path) -> None:
    (tmp_path / "file_of_root").write_text("unchanged")
    (tmp_path / "pg_hba.conf").symlink_to(tmp_path / "file_of_root")
    nobody = pwd.getpwnam("nobody")
    ServerAccount(nobody.pw_name, nobody.pw_uid, nobody.pw_gid).write_file(tmp_path / "pg_hba.conf", "new")
    assert (tmp_path / "file_of_root").read_text() == "unchanged"
    assert (tmp_path / "file_of_root").stat().st_uid == 0
    status = (tmp_path / "pg_hba.conf").lstat()
    assert (status.st_uid, status.st_mode & 0o7777, status.st_size) == (nobody.pw_uid, 0o600, 3)


@AS_ROOT
def test_servers_start_below_a_folder_that_their_account_cannot_enter(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with EmbeddedServers(closed / "data", durable=False) as servers:
        assert query_value(servers, "SELECT 1") == 1
    assert closed.stat().st_mode & 0o777 == 0o700


def test_data_is_kept_over_a_restart(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with EmbeddedServers(folder, durable=False) as servers:
        with psycopg.connect(**servers.data_folder.database) as connection:  # type: ignore[arg-type]
            connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
        redis.Redis.from_url(servers.data_folder.redis_url).set("kept", "seven")
    with EmbeddedServers(folder, durable=False) as servers:
        assert query_value(servers, "SELECT number FROM kept") == 7
        assert redis.Redis.from_url(servers.data_folder.redis_url).get("kept") == b"seven"


def test_files_of_a_dead_server_do_not_prevent_a_start(
    tmp_path: Path, unrelated_process: subprocess.Popen[bytes]
) -> None:
    """After a reboot the process ID of a lock file may belong to any process."""
    data_folder = DataFolder(tmp_path / "data")
    with EmbeddedServers(data_folder.path, durable=False):
        pass
    lock = f"{unrelated_process.pid}\n{data_folder.postgres_dir}\n0\n5432\n{data_folder.run_dir}\n\n\nready\n"
    (data_folder.postgres_dir / "postmaster.pid").write_text(lock)
    (data_folder.run_dir / ".s.PGSQL.5432.lock").write_text(lock)
    (data_folder.run_dir / ".s.PGSQL.5432").touch()
    data_folder.valkey_socket.touch()
    (data_folder.path / "lock").write_text(str(unrelated_process.pid))
    with EmbeddedServers(data_folder.path, durable=False) as servers:
        assert query_value(servers, "SELECT 1") == 1
    assert unrelated_process.poll() is None


def test_incomplete_database_of_a_killed_first_start_does_not_prevent_a_start(tmp_path: Path) -> None:
    incomplete = tmp_path / "data" / "postgres.new"
    incomplete.mkdir(parents=True)
    (incomplete / "PG_VERSION").write_text("18\n")
    with EmbeddedServers(tmp_path / "data", durable=False) as servers:
        assert query_value(servers, "SELECT 1") == 1
    assert not incomplete.exists()


@pytest.mark.parametrize("stopped", [False, True])
def test_servers_of_a_killed_parent_are_stopped_before_new_ones_start(tmp_path: Path, stopped: bool) -> None:
    data_folder = DataFolder(tmp_path / "data")
    parent = subprocess.Popen(
        [sys.executable, "-c", START, str(data_folder.path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"ready\n"
    orphans = psutil.Process(parent.pid).children(recursive=True)
    postmaster = next(p for p in orphans if p.name() == "postgres" and p.ppid() == parent.pid)
    if stopped:  # a server that does not notice its parent's end
        postmaster.send_signal(signal.SIGSTOP)
    parent.kill()
    parent.communicate()
    if stopped:
        wait_until(lambda: postmaster.ppid() != parent.pid, 10, "the server is an orphan")
        postmaster.send_signal(signal.SIGCONT)
    with EmbeddedServers(data_folder.path, durable=False) as servers:
        assert query_value(servers, "SELECT 1") == 1
        assert [p for p in orphans if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []


def test_sockets_of_a_long_path_are_in_a_short_folder(tmp_path: Path) -> None:
    data_folder = DataFolder(tmp_path / ("long" * 30) / "data")
    with EmbeddedServers(data_folder.path, durable=False) as servers:
        assert len(os.fsencode(data_folder.valkey_socket)) < SOCKET_PATH_LIMIT
        assert data_folder.run_dir.stat().st_mode & 0o777 == 0o700
        assert query_value(servers, "SELECT 1") == 1
    data_folder.run_dir.rmdir()


def test_socket_folder_of_another_user_is_rejected(tmp_path: Path) -> None:
    data_folder = DataFolder(tmp_path / ("long" * 30) / "data")
    (tmp_path / "elsewhere").mkdir()
    data_folder.run_dir.symlink_to(tmp_path / "elsewhere")
    try:
        with pytest.raises(InvalidSetting, match="belongs to another user"):
            EmbeddedServers(data_folder.path).start()
    finally:
        data_folder.run_dir.unlink()


def test_second_process_cannot_lock_the_data_folder(servers: EmbeddedServers) -> None:
    with pytest.raises(InvalidSetting, match=f"process {os.getpid()} already uses this folder"):
        EmbeddedServers(servers.data_folder.path).start()


def test_database_of_another_version_is_rejected_with_its_version(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "postgres"
    folder.mkdir(parents=True, mode=0o700)
    (folder / "PG_VERSION").write_text("15\n")
    with pytest.raises(CannotStart, match="was created by PostgreSQL 15; this is 18"):
        EmbeddedServers(tmp_path / "data").start()
