"""The two ways by which a credential comes in, so that every refusal is seen at both."""

from collections.abc import Callable
from typing import Any

from tests.conftest import ApiClient, ApiResponse, point

Door = Callable[[ApiClient], ApiResponse]

# The first is answered in front of Django, the second by a REST view.
DOORS: dict[str, Door] = {
    "fast lane": lambda caller: caller.post("devices/d/telemetry", point()),
    "REST": lambda caller: caller.get("keys"),
}


def bearing(caller: ApiClient, credential: str) -> ApiClient:
    """Somebody at the same site with `Authorization: Bearer`."""
    return ApiClient(caller.port, {"Authorization": f"Bearer {credential}"})


def said(answer: ApiResponse) -> tuple[int, dict[str, object]]:
    """An answer without the name of its request, which is new each time."""
    return answer.status, {name: value for name, value in answer.json.items() if name != "request_id"}


def assert_refused(caller: ApiClient, why: Any = "") -> None:
    """401 with a challenge and the same words, at every door."""
    for name, door in DOORS.items():
        answer = door(caller)
        assert answer.status == 401, (name, why, answer.raw)
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="telemetry"', (name, why)
        assert answer.json["detail"] == "the API key or the token is not valid", (name, why)
        assert answer.headers["Content-Type"] == "application/problem+json", (name, why)


def assert_let_in(caller: ApiClient) -> None:
    """With all rights, at every door."""
    for name, door in DOORS.items():
        assert door(caller).status == 200, (name, door(caller).raw)
