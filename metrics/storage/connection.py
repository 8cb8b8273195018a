"""PostgreSQL connections of the storage engine, without the ORM.

They are separate from Django's connections: a commit or a read of points must not wait for the transaction of a
page, and the engine uses prepared statements and binary rows.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import psycopg
from django.db import connections
from psycopg_pool import ConnectionPool, PoolTimeout

from metrics.storage.disk_space import storage_error

STATEMENT_TIMEOUT = "30s"
_COMPARED_CONNECTIONS = 3  # to detect a pooler that shares sessions

_CITUS_LOST_NODE = "failure on connection marked as essential"

Connection = psycopg.Connection[tuple[Any, ...]]


class _StorageConnection(Connection):
    """Raises ConnectionFailure where Citus reports an internal error after a node ended a connection."""

    def wait(self, *args: Any, **options: Any) -> Any:
        try:
            return super().wait(*args, **options)
        except psycopg.errors.InternalError_ as error:
            if _CITUS_LOST_NODE in str(error):
                raise psycopg.errors.ConnectionFailure(str(error)) from error
            raise


class _PoolSettings(NamedTuple):
    """Size and timeouts of a connection pool."""

    name: str
    max_connections: int
    acquire_timeout: float  # seconds
    connect_timeout: int  # seconds
    statement_timeout: str


_READ_POOL = _PoolSettings("storage", 6, 5.0, 5, STATEMENT_TIMEOUT)
_REGISTRY_POOL = _PoolSettings("registry", 2, 2.0, 2, "5s")
_MONITORING_POOL = _PoolSettings("monitoring", 3, 1.0, 1, "1s")
cursor_factory: type[psycopg.Cursor[Any]] = psycopg.Cursor  # of pooled connections; MetricsConfig sets a counting one
_pools: dict[tuple[int, str, str], ConnectionPool[Connection]] = {}
_lock = threading.Lock()


def connection_parameters() -> dict[str, Any]:
    """Return the libpq parameters of the database that Django uses at the moment."""
    parameters = connections["default"].get_connection_params()
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
    return {name: value for name, value in parameters.items() if name in names}


def connect(statement_timeout: str = STATEMENT_TIMEOUT) -> Connection:
    """Open a connection outside of the pools; each statement is a transaction."""
    connection = _StorageConnection.connect(
        **connection_parameters() | {"connect_timeout": 5}, autocommit=True, prepare_threshold=0
    )
    try:
        _configure(connection, statement_timeout)
    except BaseException:
        connection.close()
        raise
    return connection


def _configure(connection: Connection, statement_timeout: str) -> None:
    # By a statement, since PgBouncer rejects or ignores the `options` of a new connection.
    connection.execute(
        "SELECT set_config('statement_timeout', %s, false), set_config('timezone', 'UTC', false)",
        (statement_timeout,),
        prepare=False,
    )


def shares_sessions() -> bool:
    """Return whether a connection pooler moves connections between database sessions after each transaction.

    PgBouncer does so with `pool_mode` transaction or statement. Then the prepared statements, settings and locks of one
    connection affect others. The order changes, because a pooler that uses its sessions in turn could give each
    connection the same session again.
    """
    with ExitStack() as stack:
        compared = [stack.enter_context(connect()) for _ in range(_COMPARED_CONNECTIONS)]
        sessions = {connection: _session(connection) for connection in compared}
        return len(set(sessions.values())) < len(compared) or any(
            _session(connection) != sessions[connection] for connection in [*reversed(compared), *compared]
        )


def _session(connection: Connection) -> int:
    row = connection.execute("SELECT pg_backend_pid()", prepare=False).fetchone()
    assert row is not None
    process_id: int = row[0]
    return process_id


@contextmanager
def read_connection() -> Iterator[Connection]:
    """Borrow a pooled connection for reading. Raises StorageUnavailable."""
    with _translated_errors(), _pool(_READ_POOL).connection(timeout=_READ_POOL.acquire_timeout) as connection:
        yield connection


@contextmanager
def registry_connection() -> Iterator[Connection]:
    """Borrow a connection for the series registry, which must not wait for slow reads. Raises StorageUnavailable."""
    with _translated_errors(), _pool(_REGISTRY_POOL).connection(timeout=_REGISTRY_POOL.acquire_timeout) as connection:
        yield connection


@contextmanager
def monitoring_connection() -> Iterator[Connection]:
    """Borrow a connection for health checks and status pages, from a pool with short timeouts.

    The connection is tested first, so that connections closed by a database restart are not reported as an error.
    """
    with _translated_errors():
        pool = _pool(_MONITORING_POOL)
        for _ in range(_MONITORING_POOL.max_connections):
            connection = pool.getconn(_MONITORING_POOL.acquire_timeout)
            try:
                connection.execute("")
                break
            except psycopg.OperationalError:
                pool.putconn(connection)  # the pool replaces a broken connection
            except BaseException:
                pool.putconn(connection)
                raise
        else:
            connection = pool.getconn(_MONITORING_POOL.acquire_timeout)
        try:
            yield connection
        finally:
            pool.putconn(connection)


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except (PoolTimeout, psycopg.OperationalError) as error:
        raise storage_error(error, str(error)) from error


@contextmanager
def dedicated_connection() -> Iterator[Connection]:
    """Open a connection for a reader that keeps it for minutes, which leaves the pool to other readers."""
    with _translated_errors(), connect() as connection:
        yield connection


def _pool(settings: _PoolSettings) -> ConnectionPool[Connection]:
    parameters = connection_parameters()
    # With the process id: a forked child must not share its parent's sockets.
    key = (os.getpid(), str(parameters.get("dbname")), settings.name)
    with _lock:
        if key not in _pools:
            _pools[key] = ConnectionPool(
                connection_class=_StorageConnection,
                kwargs=parameters
                | {"connect_timeout": settings.connect_timeout, "autocommit": True, "prepare_threshold": 0}
                | {"application_name": f"telemetry {settings.name}", "cursor_factory": cursor_factory},
                min_size=0,
                max_size=settings.max_connections,
                max_idle=60,
                configure=lambda connection: _configure(connection, settings.statement_timeout),
                timeout=settings.acquire_timeout,
                check=None,
                open=True,
                name=settings.name,
            )
        return _pools[key]


def database_time(connection: Connection) -> float:
    """Return seconds since 1970 by PostgreSQL's clock.

    All ages are measured by this clock, so that workers on several machines agree on the day.
    """
    row = connection.execute("SELECT extract(epoch FROM now())::float8").fetchone()
    assert row is not None
    now: float = row[0]
    return now


def close_pools() -> None:
    """Close all pooled connections at the end of a process."""
    with _lock:
        for pool in _pools.values():
            pool.close()
        _pools.clear()
