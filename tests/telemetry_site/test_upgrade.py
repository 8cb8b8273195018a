"""A migrated database of an earlier version returns the recorded responses (tests/data/upgrade)."""

import gzip
import json
import logging
import logging.handlers
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connections
from django.test import Client

from alerts.evaluation.evaluator import Evaluator
from alerts.models import Alert
from metrics.storage.connection import dedicated_connection
from tests.forked_process import Database, run_forked
from tests.telemetry_site.site_process import wait_until

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[1] / "data" / "upgrade"
PREFIX = "/api/v1/telemetry/"
RECORDED = json.loads(gzip.decompress((FOLDER / "responses.json.gz").read_bytes()))
VOLATILE_FIELDS = {
    "active",
    "total",
    "count",
}  # depend on the current time, or count the audit entries of the test itself


@pytest.fixture
def old_database(transactional_db: None) -> Iterator[Database]:
    """A database of the earlier version on the test server."""
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


def migrate_and_evaluate() -> tuple[list[tuple[str, str, str]], list[str]]:
    """Migrate and evaluate the rules until the no-data rule has fired: open alerts, and logged warnings."""
    call_command("migrate", verbosity=0)
    warnings = logging.handlers.BufferingHandler(capacity=1000)
    warnings.setLevel(logging.WARNING)
    logging.getLogger().addHandler(warnings)
    open_alerts = Alert.objects.exclude(status="resolved").order_by("rule_name", "device_name")
    with dedicated_connection() as connection:
        evaluator = Evaluator(connection)
        wait_until(lambda: evaluator.step() or open_alerts.filter(rule_name="Silent pump").exists(), 30, "no data")
        evaluator.step()
    rows = open_alerts.values_list("rule_name", "device_name", "status")
    return list(rows), [record.getMessage() for record in warnings.buffer]


def without_volatile(body: Any) -> Any:
    """Return a response without volatile values."""
    if isinstance(body, list):
        return [without_volatile(item) for item in body]
    if isinstance(body, dict):
        return {name: without_volatile(value) for name, value in body.items() if name not in VOLATILE_FIELDS}
    return body


def with_recorded_fields(actual: Any, recorded: Any) -> Any:
    """Return a response without the fields that later versions have added to its objects."""
    if isinstance(actual, list) and isinstance(recorded, list) and len(actual) == len(recorded):
        return [with_recorded_fields(*pair) for pair in zip(actual, recorded, strict=True)]
    if isinstance(actual, dict) and isinstance(recorded, dict):
        return {name: with_recorded_fields(actual[name], recorded[name]) for name in recorded if name in actual}
    return actual


def test_database_of_an_earlier_version_reads_the_same_after_migration(old_database: Database) -> None:
    responses = run_forked(old_database, migrate_and_read)

    recorded = RECORDED["queries"] + RECORDED["reads"]
    for recorded_read, (status, body) in zip(recorded, responses, strict=True):
        assert status == 200, recorded_read["path"]
        expected, actual = without_volatile(recorded_read["response"]), without_volatile(body)
        if recorded_read["path"].startswith("audit"):  # signing in adds an audit entry
            newest = expected["entries"][0]["number"]
            actual["entries"] = [entry for entry in actual["entries"] if entry["number"] <= newest]
        assert with_recorded_fields(actual, expected) == expected, recorded_read["path"]


def test_rules_of_an_earlier_version_are_evaluated_after_migration(old_database: Database) -> None:
    open_alerts, warnings = run_forked(old_database, migrate_and_evaluate)

    assert open_alerts == [
        ("Door open", "pump-1", "acknowledged"),
        ("Door open", "pump-2", "active"),
        ("Silent pump", "pump-2", "active"),
    ]
    assert warnings == []
