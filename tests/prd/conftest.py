"""Fixtures of the acceptance tests: clients of the fast lane and of the views, and time limits."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import ApiClient, ApiResponse

PAUSE = 1.0  # seconds between two rounds


@pytest.fixture(params=["admin", "administrator"])
def sender(request: pytest.FixtureRequest) -> ApiClient:
    """A client with a key, served by the fast lane, and one with a session, served by the views."""
    caller: ApiClient = request.getfixturevalue(request.param)
    return caller


def within(seconds: float, send_request: Callable[[], ApiResponse], times: int = 20) -> None:
    """Assert that 95 % of the responses take less than `seconds`, after a first request that opens the connections."""
    send_request()
    durations = []
    for _ in range(times):
        started_at = time.perf_counter()
        response = send_request()
        durations.append(time.perf_counter() - started_at)
        assert response.status < 300, response.raw
    assert sorted(durations)[int(0.95 * times) - 1] < seconds, durations


def within_once(seconds: float, send_request: Callable[[], ApiResponse], times: int = 20, rounds: int = 10) -> None:
    """Assert the same for the best of several rounds, for limits so short that other load of the machine matters.

    A pause lets the other worker of the test run finish its test.
    """
    for remaining in reversed(range(rounds)):
        try:
            return within(seconds, send_request, times)
        except AssertionError:
            if not remaining:
                raise
            time.sleep(PAUSE)


def names(rows: list[dict[str, Any]], field: str) -> list[Any]:
    return [row[field] for row in rows]
