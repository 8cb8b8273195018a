"""A PostgreSQL server of one test, which can be killed."""

from pathlib import Path
from typing import Any

import psutil
import psycopg

from telemetry_site.embedded.paths import DataFolder
from telemetry_site.embedded.servers import START_TIMEOUT, embedded_servers
from tests.forked_process import Database
from tests.telemetry_site.site_process import wait_until


class PrivatePostgres:
    """Durable, since what is acknowledged must outlive a `kill -9`."""

    def __init__(self, folder: Path) -> None:
        self._data_folder = DataFolder(folder)
        [self._server] = embedded_servers(self._data_folder, postgres=True, valkey=False)
        self.start()

    @property
    def database(self) -> Database:
        given = self._data_folder.database
        return {"NAME": given["dbname"], "USER": given["user"], "HOST": given["host"], "PORT": given["port"]}

    def connect(self) -> psycopg.Connection[Any]:
        given: Any = self._data_folder.database
        return psycopg.connect(**given, autocommit=True)

    def start(self) -> None:
        self._server.start()
        wait_until(self._server.ready, START_TIMEOUT, "PostgreSQL is ready")

    def kill(self) -> None:
        """`kill -9` of the server and of all that it has started."""
        assert self._server.process is not None
        everything = psutil.Process(self._server.process.pid).children(recursive=True)
        self._server.process.kill()
        for process in everything:
            process.kill()
        self._server.process.wait(10)
        wait_until(lambda: not any(map(_lives, everything)), 10, "every process of the server ends")


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE  # init may take its time
    except psutil.NoSuchProcess:
        return False
