"""A Valkey of a test's own, which may be stopped and started again."""

from pathlib import Path

from telemetry_site.embedded.paths import Embedded
from telemetry_site.embedded.processes import ask_to_end, await_end
from telemetry_site.embedded.servers import START_PATIENCE, embedded_servers
from tests.telemetry_site.site import await_that


class OwnValkey:
    def __init__(self, folder: Path) -> None:
        self._place = Embedded(folder)
        [self._server] = embedded_servers(self._place, postgres=False, valkey=True)
        self.start()

    @property
    def url(self) -> str:
        return self._place.redis_url

    def start(self) -> None:
        self._server.start()
        await_that(self._server.ready, START_PATIENCE, "Valkey is ready")

    def stop(self) -> None:
        assert self._server.process is not None
        ask_to_end(self._server.process, self._server.ending)
        await_end(self._server.process, self._server.ending)
