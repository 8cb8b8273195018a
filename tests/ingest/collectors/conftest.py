"""Fixtures of collector tests."""

from typing import Any

import pytest

from telemetry_site.env import Environment


@pytest.fixture
def local_targets(site: None, settings: Any) -> None:
    """Let collectors reach this machine."""
    settings.ALLOW_PRIVATE_COLLECTORS = Environment({"X": "127.0.0.0/8, ::1/128"}).networks("X")
