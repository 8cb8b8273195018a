"""Both embedded servers together, without the site: what the tests and the benchmarks run on.

with Servers(Path("/some/folder")) as servers:
    servers.place.database   # libpq's parameters
    servers.place.redis_url
"""

import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from telemetry_site.embedded.account import server_account
from telemetry_site.embedded.binaries import Binaries
from telemetry_site.embedded.folder import locked, make_run_dir
from telemetry_site.embedded.paths import Embedded
from telemetry_site.embedded.postgres import CannotStart, PostgreSQL
from telemetry_site.embedded.processes import POLL, ask_to_end, await_end, how_it_ended, last_lines
from telemetry_site.embedded.valkey import Valkey

START_PATIENCE = 300.0  # crash recovery may take minutes


def embedded_servers(place: Embedded, postgres: bool, valkey: bool, durable: bool = True) -> list[PostgreSQL | Valkey]:
    """The servers of `place` that are wanted, in the order in which they are started."""
    if not (postgres or valkey):
        return []
    account = server_account(place.postgres_dir)
    binaries = Binaries.found(account)
    make_run_dir(place, account)
    wanted: list[PostgreSQL | Valkey] = []
    if valkey:
        wanted.append(Valkey(place, binaries, account))
    if postgres:
        wanted.append(PostgreSQL(place, binaries, account, durable))
    return wanted


class Servers:
    """PostgreSQL and Valkey in one folder. `durable=False` leaves out fsync, for tests alone."""

    def __init__(self, data_dir: Path, durable: bool = True) -> None:
        self.place = Embedded(data_dir)
        self.durable = durable
        self._running: list[PostgreSQL | Valkey] = []
        self._held = ExitStack()

    def start(self) -> None:
        self._held.enter_context(locked(self.place))
        try:
            for server in embedded_servers(self.place, postgres=True, valkey=True, durable=self.durable):
                server.start()
                self._running.append(server)
            deadline = time.monotonic() + START_PATIENCE
            for server in self._running:
                _await(server, deadline)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        for server in self._running:
            if server.process is not None:
                ask_to_end(server.process, server.ending)
                await_end(server.process, server.ending)
        self._running.clear()
        self._held.close()

    def __enter__(self) -> "Servers":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _await(server: PostgreSQL | Valkey, deadline: float) -> None:
    while not server.ready():
        assert server.process is not None
        if server.process.poll() is not None or time.monotonic() > deadline:
            raise CannotStart(f"{server.name} {how_it_ended(server.process)}: {' '.join(last_lines(server.log, 3))}")
        time.sleep(POLL)
