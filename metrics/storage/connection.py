"""Connections for the storage engine: PostgreSQL without the ORM in between.

They are apart from Django's: a commit or a read of points must not wait for a page's transaction, and prepared
statements and binary rows are worth having here.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg
from django.db import connections
from psycopg_pool import ConnectionPool, PoolTimeout

from metrics.storage.errors import StorageUnavailable

STATEMENT_TIMEOUT = "30s"

Connection = psycopg.Connection[tuple[Any, ...]]


class _PoolSettings(NamedTuple):
    """What connections are for: how many there may be, and how long anything takes at the most."""

    name: str
    connections: int
    wait: float  # seconds for a free one
    connecting: int  # seconds
    statement: str


_READ_POOL = _PoolSettings("storage", 6, 5.0, 5, STATEMENT_TIMEOUT)
_MONITORING_POOL = _PoolSettings("watching", 3, 1.0, 1, "1s")
cursor_factory: type[psycopg.Cursor[Any]] = psycopg.Cursor  # of pooled connections; the app sets one that counts
_pools: dict[tuple[int, str, str], ConnectionPool[Connection]] = {}
_lock = threading.Lock()


def connection_parameters() -> dict[str, Any]:
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
        **connection_parameters()
        | {"connect_timeout": 5, "options": f"-c statement_timeout={statement_timeout} -c timezone=UTC"},
        autocommit=True,
        prepare_threshold=0,
    )


@contextmanager
def read_connection() -> Iterator[Connection]:
    """A pooled connection. Raises StorageUnavailable where there is none to be had."""
    with _translated_errors(), _pool(_READ_POOL).connection(timeout=_READ_POOL.wait) as connection:
        yield connection


@contextmanager
def monitoring_connection() -> Iterator[Connection]:
    """The same for health checks and what the site tells of itself: apart from all questions, and never for long.

    It is tried first: connections that a restart of the database has closed are no news once it is back.
    """
    with _translated_errors():
        pool = _pool(_MONITORING_POOL)
        for _ in range(_MONITORING_POOL.connections):
            connection = pool.getconn(_MONITORING_POOL.wait)
            try:
                connection.execute("")
                break
            except psycopg.OperationalError:
                pool.putconn(connection)  # which brings another
        else:
            connection = pool.getconn(_MONITORING_POOL.wait)
        try:
            yield connection
        finally:
            pool.putconn(connection)


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except (PoolTimeout, psycopg.OperationalError) as error:
        raise StorageUnavailable(str(error)) from error


@contextmanager
def dedicated_connection() -> Iterator[Connection]:
    """A connection for a reader that keeps it for minutes, so that the pool is left to all others."""
    with _translated_errors(), connect() as connection:
        yield connection


def _pool(use: _PoolSettings) -> ConnectionPool[Connection]:
    given = connection_parameters()
    key = (os.getpid(), str(given.get("dbname")), use.name)  # a forked child must not share its parent's sockets
    with _lock:
        if key not in _pools:
            given["options"] = f"-c statement_timeout={use.statement} -c timezone=UTC"
            _pools[key] = ConnectionPool(
                kwargs=given
                | {"connect_timeout": use.connecting, "autocommit": True, "prepare_threshold": 0}
                | {"application_name": f"telemetry {use.name}", "cursor_factory": cursor_factory},
                min_size=0,
                max_size=use.connections,
                max_idle=60,
                timeout=use.wait,
                check=None,
                open=True,
                name=use.name,
            )
        return _pools[key]


def database_time(connection: Connection) -> float:
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
