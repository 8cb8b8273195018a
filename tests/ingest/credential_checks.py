"""Checks of credentials at both kinds of endpoints: fast lane and REST view."""

from collections.abc import Callable
from typing import Any

from tests.conftest import ApiClient, ApiResponse, point

Endpoint = Callable[[ApiClient], ApiResponse]

# The first is handled before Django, the second by a REST view.
ENDPOINTS: dict[str, Endpoint] = {
    "fast lane": lambda caller: caller.post("devices/d/telemetry", point()),
    "REST": lambda caller: caller.get("keys"),
}


def with_token(caller: ApiClient, credential: str) -> ApiClient:
    """Return a client with `Authorization: Bearer`."""
    return ApiClient(caller.port, {"Authorization": f"Bearer {credential}"})


def without_request_id(response: ApiResponse) -> tuple[int, dict[str, object]]:
    """Return the status and body of a response without the request ID, which is always new."""
    return response.status, {name: value for name, value in response.json.items() if name != "request_id"}


def assert_unauthorized(caller: ApiClient, case: Any = "") -> None:
    """Assert 401 with a challenge and the same detail at all endpoints."""
    for name, endpoint in ENDPOINTS.items():
        response = endpoint(caller)
        assert response.status == 401, (name, case, response.raw)
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="telemetry"', (name, case)
        assert response.json["detail"] == "the API key or the token is not valid", (name, case)
        assert response.headers["Content-Type"] == "application/problem+json", (name, case)


def assert_authorized(caller: ApiClient) -> None:
    """Assert 200 at all endpoints."""
    for name, endpoint in ENDPOINTS.items():
        assert endpoint(caller).status == 200, (name, endpoint(caller).raw)
