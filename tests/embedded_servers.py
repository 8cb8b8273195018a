"""The servers of the tests: embedded ones, unless DATABASE_URL and REDIS_URL are set.

A plugin instead of a conftest, because the settings read the environment before a conftest is loaded.
"""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from telemetry_site.embedded import site_processes

_OWN = "DATABASE_URL" not in os.environ
_FOLDER = Path(tempfile.mkdtemp(prefix="tt-"))  # short: sockets live in it
_FOLDER.chmod(0o755)
for _name in [name for name in os.environ if name.startswith("TELEMETRY_")]:
    del os.environ[_name]
os.environ["TELEMETRY_DATA_DIR"] = str(_FOLDER)
os.environ["TELEMETRY_COOKIE_NAME"] = "telemetry"  # as in docs/openapi.yaml
os.environ["TELEMETRY_STATEMENT_TIMEOUT"] = str(site_processes.STATEMENT_TIMEOUT)  # as for the web process


def pytest_configure(config: pytest.Config) -> None:
    leads = bool(getattr(config.option, "numprocesses", None)) and not hasattr(config, "workerinput")
    if _OWN and not config.option.collectonly and not leads:  # the controller of pytest-xdist runs no tests
        from telemetry_site.embedded.servers import EmbeddedServers

        servers = EmbeddedServers(_FOLDER, durable=False)
        servers.start()
        config.add_cleanup(servers.stop)
    config.add_cleanup(lambda: shutil.rmtree(_FOLDER, ignore_errors=True))
