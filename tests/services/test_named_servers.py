"""Storage, ingestion and live values on an external PostgreSQL and Redis, as distributions ship them.

The tests run if servers answer on the usual local ports, in a database that is created and dropped by the test.
"""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator

import psycopg
import pytest
import redis

pytestmark = pytest.mark.slow

SERVER = os.environ.get("TEST_DATABASE_URL", "postgresql://root@127.0.0.1:5432/postgres")
REDIS = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/15")


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """The URL of a new database; Django derives the name of its test database from it."""
    name = f"telemetry_{uuid.uuid4().hex[:8]}"
    try:
        redis.Redis.from_url(REDIS, socket_connect_timeout=2).ping()
        with psycopg.connect(SERVER, connect_timeout=2, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
    except (psycopg.OperationalError, redis.RedisError) as error:
        pytest.skip(f"no PostgreSQL and Redis to be used here: {str(error).splitlines()[0]}")
    yield SERVER.rpartition("/")[0] + "/" + name
    with psycopg.connect(SERVER, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def test_storage_ingestion_and_live_values_work_on_external_servers(database: str):
    test_files = ["tests/metrics/test_storage.py", "tests/ingest/test_ingestion.py"]
    completed = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", *test_files, "tests/dashboard/streams/test_telemetry_stream.py"],
        env=os.environ | {"DATABASE_URL": database, "REDIS_URL": REDIS},
        capture_output=True,
        text=True,
    )
    assert completed.returncode == 0, completed.stdout[-3000:]
    assert " passed" in completed.stdout
