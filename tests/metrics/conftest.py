"""Fixtures of a day of measurements and of an empty database."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from tests.forked_process import Database
from tests.metrics.sample_day import merge_all, point_at, send_points


@pytest.fixture
def database(django_db_setup: None, django_db_blocker: Any) -> Iterator[Database]:
    """Create an empty database, for functions that run in processes of their own."""
    name = f"own_{uuid.uuid4().hex[:8]}"
    with django_db_blocker.unblock():
        with connection.cursor() as cursor:
            cursor.execute(f'CREATE DATABASE "{name}"')
        yield {"NAME": name} | {key: str(connection.settings_dict[key]) for key in ("USER", "HOST", "PORT", "PASSWORD")}
        with connection.cursor() as cursor:
            cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(params=["unmerged", "merged", "both"])
def day(request, admin):
    """Two devices that sent every ten minutes of a day; stored unmerged, merged or both, with equal responses."""
    for number, device in enumerate(("device_001", "device_002")):
        rows = [point_at(600 * tick, value=float(tick + 100 * number), unit="celsius") for tick in range(144)]
        if request.param == "both":  # these values are replaced later
            send_points(admin, [row | {"value": -1.0} for row in rows[:100]], device)
            send_points(admin, rows[100:], device)
            merge_all()
            send_points(admin, rows[:100], device)
        else:
            send_points(admin, rows, device)
    if request.param == "merged":
        merge_all()
    return admin
