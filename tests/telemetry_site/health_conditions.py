"""The address of detailed health, and states of the database that it reports, for tests."""

from collections.abc import Iterator

import pytest

from metrics.storage import connection as connections
from metrics.storage.connection import close_pools, connect
from metrics.storage.merge import schedule
from tests.telemetry_site.site_process import free_port

DETAILED = "/health/detailed"
WITH_DATABASE = connections.connection_parameters


def merge_all_commits() -> None:
    with connect() as connection:
        schedule.merge_commits(connection, force=True)


@pytest.fixture
def no_database(site: None) -> Iterator[None]:
    """Connect to a port where no server listens."""
    close_pools()
    port = free_port()
    connections.connection_parameters = lambda: {"host": "127.0.0.1", "port": port, "dbname": "nowhere"}
    yield
    connections.connection_parameters = WITH_DATABASE
    close_pools()
