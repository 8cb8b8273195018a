"""A PostgreSQL cluster with Citus on loopback: a coordinator and two workers that tests can stop and start."""

import shutil
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from telemetry_site.embedded.child_process import (
    StopPolicy,
    last_lines,
    request_stop,
    server_environment,
    spawn,
    wait_until_stopped,
)
from telemetry_site.embedded.postgres import PostgreSQL
from telemetry_site.embedded.server_account import ServerAccount, server_account
from tests.telemetry_site.site_process import wait_until

WORKERS = 2
USER = "postgres"
CONFIGURATION = """\
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_preload_libraries = 'citus'
max_connections = 200
max_prepared_transactions = 200
wal_level = logical
fsync = off
timezone = 'UTC'
citus.shard_count = 8
citus.max_cached_conns_per_worker = 4
citus.node_connection_timeout = 5000
citus.local_hostname = '127.0.0.1'
"""


def missing_reason() -> str:
    """Return why no cluster can be started here; empty if one can."""
    if shutil.which("pg_config") is None:
        return "pg_config is not installed"
    if not (_pg_config("sharedir") / "extension" / "citus.control").is_file():
        return "the PostgreSQL of pg_config has no Citus"
    return "" if (_pg_config("bindir") / "initdb").is_file() else "the PostgreSQL of pg_config has no server"


def _pg_config(name: str) -> Path:
    completed = subprocess.run(["pg_config", f"--{name}"], capture_output=True, text=True, check=True)
    return Path(completed.stdout.strip())


@dataclass
class Node:
    """One PostgreSQL server with Citus."""

    folder: Path
    account: ServerAccount
    port: int
    process: subprocess.Popen[bytes] | None = None

    def create(self) -> None:
        self.account.take_ownership(self.folder)
        initdb = [_pg_config("bindir") / "initdb", "-D", self.folder, "-U", USER, "--encoding=UTF8", "--locale=C"]
        subprocess.run(
            [*initdb, "--auth=trust", "--no-sync"],
            check=True,
            capture_output=True,
            cwd=self.folder,
            env=server_environment(),
            **self.account.popen_arguments(),
        )
        with (self.folder / "postgresql.conf").open("a") as file:
            file.write(CONFIGURATION)

    def start(self) -> None:
        command = [_pg_config("bindir") / "postgres", "-D", self.folder, "-p", str(self.port)]
        self.process = spawn(command, self._log, account=self.account, environment=server_environment())
        wait_until(self._answers, 60, f"node {self.port} answers: {last_lines(self._log, 3)}")

    def stop(self, policy: StopPolicy = PostgreSQL.stop_policy) -> None:
        if self.process is not None:
            request_stop(self.process, policy)
            wait_until_stopped(self.process, policy)

    def connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        return psycopg.connect(self.url(database), autocommit=True, connect_timeout=5)

    def url(self, database: str) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    @property
    def _log(self) -> Path:
        return self.folder.with_suffix(".log")

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True


@dataclass
class CitusCluster:
    """A coordinator and its workers."""

    coordinator: Node
    workers: list[Node] = field(default_factory=list)

    @classmethod
    def create(cls, folder: Path) -> "CitusCluster":
        account = server_account(folder / "coordinator")
        folder.chmod(0o755)
        names = ("coordinator", *(f"worker{number}" for number in range(WORKERS)))
        nodes = [Node(folder / name, account, port) for name, port in zip(names, _free_ports(), strict=True)]
        for node in nodes:
            node.create()
            node.start()
        return cls(nodes[0], nodes[1:])

    def stop(self) -> None:
        for node in (self.coordinator, *self.workers):
            node.stop()

    def add_extension(self, database: str) -> None:
        """Make an existing database of the coordinator the cluster's database."""
        for worker in self.workers:
            with worker.connect() as connection:
                name = sql.Identifier(database)
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
                connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
            with worker.connect(database) as connection:
                connection.execute("CREATE EXTENSION citus")
        with self.coordinator.connect(database) as connection:
            connection.execute("CREATE EXTENSION citus")
            connection.execute("SELECT citus_set_coordinator_host('127.0.0.1', %s)", (self.coordinator.port,))
            for worker in self.workers:
                connection.execute("SELECT citus_add_node('127.0.0.1', %s)", (worker.port,))


def _free_ports() -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(1 + WORKERS)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


running: CitusCluster | None = None  # set by tests.citus.__main__
