"""Connections for the storage engine: PostgreSQL without the ORM in between.

They are apart from Django's: a commit or a read of points must not wait for a page's transaction, and prepared
statements and binary rows are worth having here.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.db import connections
from psycopg_pool import ConnectionPool, PoolTimeout

from metrics.errors import StorageUnavailable
from metrics.visit import CountingCursor

POOL_SIZE = 6
WAIT = 5.0  # seconds for a free connection
STATEMENT_TIMEOUT = "30s"

Connection = psycopg.Connection[tuple[Any, ...]]

_pools: dict[tuple[int, str], ConnectionPool[Connection]] = {}
_lock = threading.Lock()


def parameters() -> dict[str, Any]:
    """libpq's parameters of the database that Django uses now (a test's own, in tests)."""
    given = connections["default"].get_connection_params()
    names = {
        "dbname",
        "user",
        "password",
        "host",
        "port",
        "sslmode",
        "sslrootcert",
        "sslcert",
        "sslkey",
        "service",
        "passfile",
    }
    return {name: value for name, value in given.items() if name in names}


def connect(statement_timeout: str = STATEMENT_TIMEOUT) -> Connection:
    """A connection of one's own, each statement a transaction."""
    return psycopg.connect(
        **parameters() | {"connect_timeout": 5, "options": f"-c statement_timeout={statement_timeout} -c timezone=UTC"},
        autocommit=True,
        prepare_threshold=0,
    )


@contextmanager
def reading() -> Iterator[Connection]:
    """A pooled connection. Raises StorageUnavailable where there is none to be had."""
    try:
        with _pool().connection(timeout=WAIT) as connection:
            yield connection
    except (PoolTimeout, psycopg.OperationalError) as error:
        raise StorageUnavailable(str(error)) from error


@contextmanager
def alone() -> Iterator[Connection]:
    """A connection for a reader that keeps it for minutes, so that the pool is left to all others."""
    try:
        with connect() as connection:
            yield connection
    except psycopg.OperationalError as error:
        raise StorageUnavailable(str(error)) from error


def _pool() -> ConnectionPool[Connection]:
    given = parameters()
    key = (os.getpid(), str(given.get("dbname")))  # a forked child must not share its parent's sockets
    with _lock:
        if key not in _pools:
            given["options"] = f"-c statement_timeout={STATEMENT_TIMEOUT} -c timezone=UTC"
            _pools[key] = ConnectionPool(
                kwargs=given
                | {"connect_timeout": 5, "autocommit": True, "prepare_threshold": 0, "cursor_factory": CountingCursor},
                min_size=0,
                max_size=POOL_SIZE,
                max_idle=60,
                timeout=WAIT,
                check=None,
                open=True,
                name="storage",
            )
        return _pools[key]


def clock(connection: Connection) -> float:
    """Seconds since 1970 by PostgreSQL's clock, as all ages are: workers on several machines agree on the day."""
    row = connection.execute("SELECT extract(epoch FROM now())::float8").fetchone()
    assert row is not None
    now: float = row[0]
    return now


def close_pools() -> None:
    """Give back every connection: for the end of a process, and between tests."""
    with _lock:
        for pool in _pools.values():
            pool.close()
        _pools.clear()
