"""A private PostgreSQL server that a test can kill."""

from pathlib import Path
from typing import Any

import psutil
import psycopg

from telemetry_site.embedded.paths import DataFolder
from telemetry_site.embedded.servers import START_TIMEOUT, embedded_servers
from tests.forked_process import Database
from tests.telemetry_site.site_process import wait_until


class PrivatePostgres:
    """Runs with durable commits, since acknowledged points must survive a `kill -9`."""

    def __init__(self, folder: Path) -> None:
        self._data_folder = DataFolder(folder)
        [self._server] = embedded_servers(self._data_folder, postgres=True, valkey=False)
        self.start()

    @property
    def database(self) -> Database:
        parameters = self._data_folder.database
        return {
            "NAME": parameters["dbname"],
            "USER": parameters["user"],
            "HOST": parameters["host"],
            "PORT": parameters["port"],
        }

    def connect(self) -> psycopg.Connection[Any]:
        parameters: Any = self._data_folder.database
        return psycopg.connect(**parameters, autocommit=True)

    def start(self) -> None:
        self._server.start()
        wait_until(self._server.ready, START_TIMEOUT, "PostgreSQL is ready")

    def kill(self) -> None:
        """Kill the server and all of its processes with SIGKILL."""
        assert self._server.process is not None
        processes = psutil.Process(self._server.process.pid).children(recursive=True)
        self._server.process.kill()
        for process in processes:
            process.kill()
        self._server.process.wait(10)
        wait_until(lambda: not any(map(_is_running, processes)), 10, "every process of the server ends")


def _is_running(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE  # a zombie has ended
    except psutil.NoSuchProcess:
        return False
