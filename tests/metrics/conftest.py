"""A day of measurements; a database of a test's own, on the server that all tests share."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from tests.forked_process import Database
from tests.metrics.day import at, merged, send


@pytest.fixture
def database(django_db_setup: None, django_db_blocker: Any) -> Iterator[Database]:
    """Empty; for functions that run in processes of their own."""
    name = f"own_{uuid.uuid4().hex[:8]}"
    with django_db_blocker.unblock():
        with connection.cursor() as cursor:
            cursor.execute(f'CREATE DATABASE "{name}"')
        yield {"NAME": name} | {key: str(connection.settings_dict[key]) for key in ("USER", "HOST", "PORT", "PASSWORD")}
        with connection.cursor() as cursor:
            cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(params=["young", "merged", "both"])
def day(request, admin):
    """Two devices that sent every ten minutes of a day: wherever it lives, every answer is the same."""
    for number, device in enumerate(("device_001", "device_002")):
        rows = [at(600 * tick, value=float(tick + 100 * number), unit="celsius") for tick in range(144)]
        if request.param == "both":  # old values that later ones replace
            send(admin, [row | {"value": -1.0} for row in rows[:100]], device)
            send(admin, rows[100:], device)
            merged()
            send(admin, rows[:100], device)
        else:
            send(admin, rows, device)
    if request.param == "merged":
        merged()
    return admin
