"""The size limit and the timeout of requests."""

import asyncio
import http.client
import json
import threading
from typing import Any

import pytest
from django.db import connection

from metrics.models import MetricDefinition
from metrics.storage.write import group_commit
from rest.parsers import BODY_LIMIT as JSON_LIMIT
from telemetry_site.middleware import size_and_timeout
from telemetry_site.middleware.size_and_timeout import MAX_BODY_SIZE, SizeAndTimeoutLimits
from tests.conftest import API, ApiClient, point


@pytest.mark.parametrize("path", [f"{API}/metrics", f"{API}/query", f"{API}/devices/d/telemetry", "/login/", "/none"])
@pytest.mark.parametrize("chunked", [False, True])
def test_too_large_body_is_rejected_with_413(administrator: ApiClient, path: str, chunked: bool):
    connection = http.client.HTTPConnection("127.0.0.1", administrator.port, timeout=30)
    headers = administrator.headers | {"Content-Type": "application/json"}
    chunk = b" " * 2**20
    if chunked:
        headers |= {"Transfer-Encoding": "chunked"}
        body: Any = (chunk for _ in range(MAX_BODY_SIZE // len(chunk) + 1))
    else:
        headers |= {"Content-Length": str(MAX_BODY_SIZE + 1)}
        body = b"only the beginning"
    connection.request("POST", path, body, headers, encode_chunked=chunked)
    response = connection.getresponse()
    problem = json.loads(response.read())
    connection.close()
    assert response.status == problem["status"] == 413 and str(MAX_BODY_SIZE) in problem["detail"]


def test_json_body_has_a_smaller_limit(admin: ApiClient):
    response = admin.post("metrics", b'"' + b"x" * JSON_LIMIT + b'"')
    assert response.status == 413 and str(JSON_LIMIT) in response.json["detail"]


async def send_request(app: Any, body: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    messages = body or [{"type": "http.request", "body": b""}]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop(0)
        return await asyncio.Event().wait()  # type: ignore[return-value]

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app({"type": "http", "headers": []}, receive, send)
    return sent


class BlockingApplication:
    """An application that responds once `release` is set; a stream if `starts_first`."""

    def __init__(self, starts_first: bool = False) -> None:
        self.release, self.starts_first, self.ended = asyncio.Event(), starts_first, False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if self.starts_first:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await self.release.wait()
        if not self.starts_first:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"late"})
        self.ended = True


async def test_response_that_does_not_start_in_time_is_503():
    app = BlockingApplication()
    start, body = await send_request(SizeAndTimeoutLimits(app, timeout=0.01))
    assert start["status"] == 503 and dict(start["headers"])[b"retry-after"] == b"5"
    assert "no response within" in json.loads(body["body"])["detail"]
    app.release.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert app.ended  # the late response is discarded


async def test_started_stream_has_no_timeout():
    app = BlockingApplication(starts_first=True)
    asyncio.get_running_loop().call_later(0.05, app.release.set)
    start, body = await send_request(SizeAndTimeoutLimits(app, timeout=0.01))
    assert start["status"] == 200 and body["body"] == b"late"


async def test_slow_body_does_not_count_for_the_timeout():
    app = BlockingApplication()
    app.release.set()

    async def slow_app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.05)
        await app(scope, receive, send)

    assert (await send_request(SizeAndTimeoutLimits(slow_app, timeout=0.01)))[0]["status"] == 200


async def test_exception_of_the_application_is_passed_on():
    async def failing_app(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("of the test")

    with pytest.raises(RuntimeError, match="of the test"):
        await send_request(SizeAndTimeoutLimits(failing_app))
    assert size_and_timeout.RESPONSE_TIMEOUT == 60


@pytest.mark.slow
def test_statement_timeout_of_a_view_is_503_with_retry_after(administrator: ApiClient, monkeypatch: pytest.MonkeyPatch):
    MetricDefinition.objects.create(name="m", data_type="numeric")
    connection.close()
    connection.close_pool()  # type: ignore[attr-defined]  # one that was there before the web process
    with connection.cursor() as cursor:  # as the web process's connections have it (tests.embedded_servers)
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("30s",)
    lock_acquired, released = threading.Event(), threading.Event()

    def hold_lock() -> None:
        from django.db import transaction

        with transaction.atomic(), connection.cursor() as lock_cursor:
            lock_cursor.execute("LOCK TABLE metrics_metricdefinition IN ACCESS EXCLUSIVE MODE")
            lock_acquired.set()
            released.wait(20)
        connection.close()

    with connection.cursor() as cursor:
        cursor.execute("SELECT current_database()")
        [name] = cursor.fetchone()
        cursor.execute(f"ALTER DATABASE {name} SET lock_timeout = '200ms'")
    connection.close()
    connection.close_pool()  # type: ignore[attr-defined]  # so that new connections have it
    thread = threading.Thread(target=hold_lock)
    thread.start()
    try:
        assert lock_acquired.wait(10)
        response = administrator.get("metrics/m")
    finally:
        released.set()
        thread.join()
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER DATABASE {name} RESET lock_timeout")
        connection.close()
        connection.close_pool()  # type: ignore[attr-defined]
    assert response.status == 503 and response.headers["Retry-After"] and "takes too long" in response.json["detail"]


@pytest.mark.parametrize("interface", ["fast lane", "Django"])
@pytest.mark.parametrize(("path", "body"), [("telemetry", point()), ("telemetry/batch", {"data_points": [point()]})])
def test_full_write_queue_is_503_with_retry_after(
    admin: ApiClient, administrator: ApiClient, interface: str, path: str, body: Any, monkeypatch: pytest.MonkeyPatch
):
    sender = admin if interface == "fast lane" else administrator
    assert sender.post(f"devices/d/{path}", body).status == 200
    monkeypatch.setattr(group_commit, "MAX_QUEUED_POINTS", 0)
    for address in (f"devices/d/{path}", "bulk"):
        response = sender.post(address, {"d": [point()]} if address == "bulk" else body)
        assert response.status == 503 and response.headers["Retry-After"] == "1"
        assert response.headers["Content-Type"] == "application/problem+json" and "try again" in response.json["detail"]
    monkeypatch.undo()
    assert sender.post(f"devices/d/{path}", body).status == 200
