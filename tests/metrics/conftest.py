"""A database of a test's own, on the server that all tests share."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from tests.processes import Database


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
