"""A database of an earlier version is migrated and answers every read as that version did (tests/data/upgrade)."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connections
from django.test import Client

from tests.forked_process import Database, run_forked

FOLDER = Path(__file__).parents[1] / "data" / "upgrade"
PREFIX = "/api/v1/telemetry/"
RECORDED = json.loads(gzip.decompress((FOLDER / "responses.json.gz").read_bytes()))
VOLATILE = {"active", "total", "count"}  # depend on the current time, or count the audit entries of the test itself


@pytest.fixture
def old_database(transactional_db: None) -> Iterator[Database]:
    """A database as the earlier version left it, on the server of the tests."""
    parameters = connections["default"].get_connection_params()
    server = {name: parameters[name] for name in ("host", "port", "user", "password") if name in parameters}
    name = f"upgrade_{parameters['dbname']}"
    with psycopg.connect(**server, dbname="postgres", autocommit=True) as admin:
        admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        admin.execute(f"CREATE DATABASE \"{name}\" TEMPLATE template0 ENCODING 'UTF8'")
        with psycopg.connect(**server, dbname=name, autocommit=True) as restored:
            restored.execute(gzip.decompress((FOLDER / "database.sql.gz").read_bytes()))
        yield {"NAME": name}
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def migrate_and_read() -> list[tuple[int, Any]]:
    """Migrate, then repeat the recorded reads as an administrator: status and body of each."""
    call_command("migrate", verbosity=0)
    client = Client(SERVER_NAME="localhost")
    client.force_login(User.objects.filter(is_superuser=True)[0])
    responses = [
        client.post(PREFIX + query["path"], query["body"], content_type="application/json")
        for query in RECORDED["queries"]
    ]
    responses += [client.get(PREFIX + read["path"]) for read in RECORDED["reads"]]
    return [(response.status_code, response.json()) for response in responses]


def stable(body: Any) -> Any:
    """A response without the values that change by themselves."""
    if isinstance(body, list):
        return [stable(item) for item in body]
    if isinstance(body, dict):
        return {name: stable(value) for name, value in body.items() if name not in VOLATILE}
    return body


def test_database_of_an_earlier_version_reads_the_same_after_migration(old_database: Database) -> None:
    responses = run_forked(old_database, migrate_and_read)

    recorded = RECORDED["queries"] + RECORDED["reads"]
    for earlier, (status, body) in zip(recorded, responses, strict=True):
        assert status == 200, earlier["path"]
        before, after = stable(earlier["response"]), stable(body)
        if earlier["path"].startswith("audit"):  # reading signs in, which is an entry of its own
            newest = before["entries"][0]["number"]
            after["entries"] = [entry for entry in after["entries"] if entry["number"] <= newest]
        assert after == before, earlier["path"]
