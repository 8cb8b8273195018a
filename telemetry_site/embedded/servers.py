"""The embedded PostgreSQL and Valkey, started together.

with EmbeddedServers(Path("/some/folder")) as servers:
    servers.data_folder.database   # libpq connection parameters
    servers.data_folder.redis_url
"""

import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from telemetry_site.embedded.child_process import (
    POLL_INTERVAL,
    exit_description,
    last_lines,
    request_stop,
    wait_until_stopped,
)
from telemetry_site.embedded.data_folder import lock_data_folder, make_run_dir
from telemetry_site.embedded.paths import DataFolder
from telemetry_site.embedded.postgres import CannotStart, PostgreSQL
from telemetry_site.embedded.server_account import server_account
from telemetry_site.embedded.server_binaries import ServerBinaries
from telemetry_site.embedded.valkey import Valkey

START_TIMEOUT = 300.0  # seconds; crash recovery can take minutes


def embedded_servers(
    data_folder: DataFolder, postgres: bool, valkey: bool, durable: bool = True
) -> list[PostgreSQL | Valkey]:
    """Return the selected servers of `data_folder` in start order."""
    if not (postgres or valkey):
        return []
    account = server_account(data_folder.postgres_dir)
    binaries = ServerBinaries.locate(account)
    make_run_dir(data_folder, account)
    servers: list[PostgreSQL | Valkey] = []
    if valkey:
        servers.append(Valkey(data_folder, binaries, account))
    if postgres:
        servers.append(PostgreSQL(data_folder, binaries, account, durable))
    return servers


class EmbeddedServers:
    """PostgreSQL and Valkey in one folder. `durable=False` disables fsync: data can be lost in a power failure."""

    def __init__(self, data_dir: Path, durable: bool = True) -> None:
        self.data_folder = DataFolder(data_dir)
        self.durable = durable
        self._running: list[PostgreSQL | Valkey] = []
        self._lock = ExitStack()

    def start(self) -> None:
        self._lock.enter_context(lock_data_folder(self.data_folder))
        try:
            for server in embedded_servers(self.data_folder, postgres=True, valkey=True, durable=self.durable):
                server.start()
                self._running.append(server)
            deadline = time.monotonic() + START_TIMEOUT
            for server in self._running:
                _wait_until_ready(server, deadline)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        for server in self._running:
            if server.process is not None:
                request_stop(server.process, server.stop_policy)
                wait_until_stopped(server.process, server.stop_policy)
        self._running.clear()
        self._lock.close()

    def __enter__(self) -> "EmbeddedServers":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _wait_until_ready(server: PostgreSQL | Valkey, deadline: float) -> None:
    while not server.ready():
        assert server.process is not None
        if server.process.poll() is not None or time.monotonic() > deadline:
            raise CannotStart(
                f"{server.name} {exit_description(server.process)}: {' '.join(last_lines(server.log, 3))}"
            )
        time.sleep(POLL_INTERVAL)
