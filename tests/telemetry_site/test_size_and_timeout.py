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
    piece = b" " * 2**20
    if chunked:
        headers |= {"Transfer-Encoding": "chunked"}
        body: Any = (piece for _ in range(MAX_BODY_SIZE // len(piece) + 1))
    else:
        headers |= {"Content-Length": str(MAX_BODY_SIZE + 1)}
        body = b"only the beginning"
    connection.request("POST", path, body, headers, encode_chunked=chunked)
    answer = connection.getresponse()
    told = json.loads(answer.read())
    connection.close()
    assert answer.status == told["status"] == 413 and str(MAX_BODY_SIZE) in told["detail"]


def test_json_body_has_a_smaller_limit(admin: ApiClient):
    answer = admin.post("metrics", b'"' + b"x" * JSON_LIMIT + b'"')
    assert answer.status == 413 and str(JSON_LIMIT) in answer.json["detail"]


async def ask(app: Any, body: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
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


class Slow:
    """Answers when it is let, a stream where it is asked to."""

    def __init__(self, begins: bool = False) -> None:
        self.let, self.begins, self.ended = asyncio.Event(), begins, False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if self.begins:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await self.let.wait()
        if not self.begins:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"late"})
        self.ended = True


async def test_response_that_does_not_begin_in_time_is_503():
    slow = Slow()
    start, body = await ask(SizeAndTimeoutLimits(slow, timeout=0.01))
    assert start["status"] == 503 and dict(start["headers"])[b"retry-after"] == b"5"
    assert "no response within" in json.loads(body["body"])["detail"]
    slow.let.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert slow.ended  # what it said in the end went nowhere


async def test_begun_stream_has_no_timeout():
    slow = Slow(begins=True)
    asyncio.get_running_loop().call_later(0.05, slow.let.set)
    start, body = await ask(SizeAndTimeoutLimits(slow, timeout=0.01))
    assert start["status"] == 200 and body["body"] == b"late"


async def test_slow_body_does_not_count_for_the_timeout():
    slow = Slow()
    slow.let.set()

    async def dawdling(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.05)
        await slow(scope, receive, send)

    assert (await ask(SizeAndTimeoutLimits(dawdling, timeout=0.01)))[0]["status"] == 200


async def test_exception_of_the_application_is_passed_on():
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("of the test")

    with pytest.raises(RuntimeError, match="of the test"):
        await ask(SizeAndTimeoutLimits(broken))
    assert size_and_timeout.RESPONSE_TIMEOUT == 60


def test_statement_timeout_of_a_view_is_503_with_retry_after(administrator: ApiClient, monkeypatch: pytest.MonkeyPatch):
    MetricDefinition.objects.create(name="m", data_type="numeric")
    connection.close()
    connection.close_pool()  # type: ignore[attr-defined]  # one that was there before the web process
    with connection.cursor() as cursor:  # as the web process's connections have it (tests.embedded_servers)
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("30s",)
    locked, over = threading.Event(), threading.Event()

    def hold() -> None:
        from django.db import transaction

        with transaction.atomic(), connection.cursor() as held:
            held.execute("LOCK TABLE metrics_metricdefinition IN ACCESS EXCLUSIVE MODE")
            locked.set()
            over.wait(20)
        connection.close()

    with connection.cursor() as cursor:
        cursor.execute("SELECT current_database()")
        [name] = cursor.fetchone()
        cursor.execute(f"ALTER DATABASE {name} SET lock_timeout = '200ms'")
    connection.close()
    connection.close_pool()  # type: ignore[attr-defined]  # so that new connections have it
    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert locked.wait(10)
        answer = administrator.get("metrics/m")
    finally:
        over.set()
        holder.join()
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER DATABASE {name} RESET lock_timeout")
        connection.close()
        connection.close_pool()  # type: ignore[attr-defined]
    assert answer.status == 503 and answer.headers["Retry-After"] and "takes too long" in answer.json["detail"]


@pytest.mark.parametrize("way", ["fast lane", "Django"])
@pytest.mark.parametrize(("path", "body"), [("telemetry", point()), ("telemetry/batch", {"data_points": [point()]})])
def test_full_write_queue_is_503_with_retry_after(
    admin: ApiClient, administrator: ApiClient, way: str, path: str, body: Any, monkeypatch: pytest.MonkeyPatch
):
    sender = admin if way == "fast lane" else administrator
    assert sender.post(f"devices/d/{path}", body).status == 200
    monkeypatch.setattr(group_commit, "MAX_QUEUED_POINTS", 0)
    for address in (f"devices/d/{path}", "bulk"):
        answer = sender.post(address, {"d": [point()]} if address == "bulk" else body)
        assert answer.status == 503 and answer.headers["Retry-After"] == "1"
        assert answer.headers["Content-Type"] == "application/problem+json" and "try again" in answer.json["detail"]
    monkeypatch.undo()
    assert sender.post(f"devices/d/{path}", body).status == 200
