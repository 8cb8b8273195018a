"""Connections through a real PgBouncer: its pool mode is detected, and statement timeouts apply."""

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.core.management import call_command

from metrics.storage import connection as connections
from telemetry_site.database.base import DatabaseWrapper
from telemetry_site.embedded.server_account import server_account
from telemetry_site.env import InvalidSetting
from tests.telemetry_site.site_process import free_port, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("site"),
    pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="PgBouncer is not installed"),
]
CONFIGURATION = """
[databases]
* = host={host} port={port} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
"""


@pytest.fixture
def readable_folder() -> Iterator[Path]:
    """A folder that the account of PgBouncer can read; pytest's folders are private."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def start_pooler(readable_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], dict[str, Any]]]:
    """Return a function that starts PgBouncer in front of the test database and returns the parameters through it."""
    processes: list[subprocess.Popen[bytes]] = []
    direct = connections.connection_parameters()

    def start(mode: str) -> dict[str, Any]:
        port = free_port()
        file = readable_folder / "pgbouncer.ini"
        names = {"host": direct["host"], "port": direct["port"], "user": direct["user"]}
        file.write_text(CONFIGURATION.format(**names, listen_port=port, mode=mode))
        account = server_account(readable_folder)  # PgBouncer does not start as root
        if str(direct["host"]).startswith("/"):
            accept_peer(account.name, direct)
        command = [str(shutil.which("pgbouncer")), "-q", str(file)]
        processes.append(subprocess.Popen(command, **account.popen_arguments()))
        wait_until(lambda: accepts_connections(port), 10, "PgBouncer starts")
        through = direct | {"host": "127.0.0.1", "port": port}
        monkeypatch.setattr(connections, "connection_parameters", lambda: dict(through))
        return through

    yield start
    for process in processes:
        process.terminate()
        process.wait(10)


def accept_peer(account: str, parameters: dict[str, Any]) -> None:
    """Let an account of this machine connect to the embedded database server."""
    with psycopg.connect(**parameters | {"user": "postgres"}, autocommit=True) as connection:
        with (settings.EMBEDDED.postgres_dir / "pg_ident.conf").open("a") as identities:
            identities.write(f'owner "{account}" {parameters["user"]}\n')
        connection.execute("SELECT pg_reload_conf()")


def accepts_connections(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_pooler_that_shares_sessions_stops_the_start_with_one_line(
    start_pooler: Callable[[str], dict[str, Any]], mode: str
) -> None:
    start_pooler(mode)
    with pytest.raises(InvalidSetting, match="pool_mode = session is required") as raised:
        call_command("provision")
    assert "\n" not in str(raised.value)


def test_pooler_is_detected_while_its_sessions_are_used_in_turn(
    start_pooler: Callable[[str], dict[str, Any]],
) -> None:
    parameters = start_pooler("transaction")
    others = [psycopg.connect(**parameters, autocommit=True, prepare_threshold=None) for _ in range(5)]
    for other in others:  # five sessions of the server, idle afterwards
        other.execute("BEGIN")
    for other in others:
        other.execute("COMMIT")
    assert all(connections.shares_sessions() for _ in range(20))
    for other in others:
        other.close()


def test_session_pooling_is_accepted_and_keeps_statement_timeouts(
    start_pooler: Callable[[str], dict[str, Any]],
) -> None:
    parameters = start_pooler("session")
    assert not any(connections.shares_sessions() for _ in range(5))
    with connections.connect(statement_timeout="7s") as storage:
        assert storage.execute("SHOW statement_timeout").fetchone() == ("7s",)
    names = {"dbname": "NAME", "user": "USER", "host": "HOST", "port": "PORT"}
    wrapper = DatabaseWrapper(
        settings.DATABASES["default"] | {django: parameters[libpq] for libpq, django in names.items()}, "pooled"
    )
    with wrapper.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == (f"{settings.STATEMENT_TIMEOUT}s",)
    wrapper.close_pool()
