"""A private Valkey server that a test can stop and restart."""

from pathlib import Path

from telemetry_site.embedded.child_process import request_stop, wait_until_stopped
from telemetry_site.embedded.paths import DataFolder
from telemetry_site.embedded.servers import START_TIMEOUT, embedded_servers
from tests.telemetry_site.site_process import wait_until


class PrivateValkey:
    def __init__(self, folder: Path) -> None:
        self._data_folder = DataFolder(folder)
        [self._server] = embedded_servers(self._data_folder, postgres=False, valkey=True)
        self.start()

    @property
    def url(self) -> str:
        return self._data_folder.redis_url

    def start(self) -> None:
        self._server.start()
        wait_until(self._server.ready, START_TIMEOUT, "Valkey is ready")

    def stop(self) -> None:
        assert self._server.process is not None
        request_stop(self._server.process, self._server.stop_policy)
        wait_until_stopped(self._server.process, self._server.stop_policy)
