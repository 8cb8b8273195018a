"""The concurrency limit: requests above it wait in a queue, and each is answered."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.concurrent import build_batches, build_queries, send_burst
from telemetry_site.middleware import concurrency
from telemetry_site.middleware.concurrency import (
    CHUNK_SIZE,
    MAX_BODY_IN_MEMORY,
    MAX_CONCURRENT_REQUESTS,
    ConcurrencyLimit,
)
from tests.telemetry_site.site_process import Site

MOST_GROWTH = 48 * 2**20  # bytes that two hundred questions at once may leave behind in the web process


class Inner:
    """What stands behind the line: says who is inside, and answers when it is let."""

    def __init__(self) -> None:
        self.inside = 0
        self.let = asyncio.Event()
        self.bodies: list[bytes] = []

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        self.bodies.append(body)
        if "fail" in scope["path"]:
            raise RuntimeError
        self.inside += 1
        if "stream" in scope["path"]:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await self.let.wait()
        if "stream" not in scope["path"]:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})
        self.inside -= 1


async def ask(line: ConcurrencyLimit, path: str = "/api/v1/query", *messages: dict[str, Any]) -> list[dict[str, Any]]:
    waiting = list(messages) or [{"type": "http.request", "body": b"?", "more_body": False}]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if waiting:
            return waiting.pop(0)
        return await asyncio.Event().wait()  # type: ignore[return-value]  # a sender that says no more

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await line({"type": "http", "path": path}, receive, send)
    return sent


async def settled() -> None:
    """Every task has come as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_requests_over_the_limit_wait_and_are_all_answered() -> None:
    inner = Inner()
    line = ConcurrencyLimit(inner)
    asked = [asyncio.create_task(ask(line)) for _ in range(5 * MAX_CONCURRENT_REQUESTS)]
    await settled()
    assert inner.inside == MAX_CONCURRENT_REQUESTS
    health = asyncio.create_task(ask(line, "/health"))
    await settled()
    assert inner.inside == MAX_CONCURRENT_REQUESTS + 1  # which waits for nobody
    inner.let.set()
    answers = await asyncio.gather(*asked, health)
    assert Counter(sent[0]["status"] for sent in answers) == {200: 5 * MAX_CONCURRENT_REQUESTS + 1}
    assert set(inner.bodies) == {b"?"}


async def test_slow_body_or_streamed_response_does_not_count_for_the_limit() -> None:
    inner = Inner()
    line = ConcurrencyLimit(inner)
    half = {"type": "http.request", "body": b"{", "more_body": True}
    others = [asyncio.create_task(ask(line, "/api/v1/query", half)) for _ in range(MAX_CONCURRENT_REQUESTS)]
    others += [asyncio.create_task(ask(line, "/api/v1/stream")) for _ in range(MAX_CONCURRENT_REQUESTS)]
    await settled()
    quick = asyncio.create_task(ask(line))
    await settled()
    assert inner.inside == MAX_CONCURRENT_REQUESTS + 1
    for task in [*others, quick]:
        task.cancel()


async def test_body_of_any_size_is_passed_on_unchanged() -> None:
    inner = Inner()
    inner.let.set()
    line = ConcurrencyLimit(inner)
    sizes = [
        0,
        1,
        CHUNK_SIZE - 1,
        CHUNK_SIZE,
        CHUNK_SIZE + 1,
        MAX_BODY_IN_MEMORY,
        MAX_BODY_IN_MEMORY + 1,
        3 * MAX_BODY_IN_MEMORY,
    ]
    for size in sizes:
        pieces = [bytes([at % 251]) * min(100_000, size - at) for at in range(0, size, 100_000)] or [b""]
        messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
        await ask(line, "/api/v1/query", *messages[:-1], messages[-1] | {"more_body": False})
        assert inner.bodies.pop() == b"".join(pieces)


async def test_disconnect_before_the_end_of_the_body_does_not_call_the_application() -> None:
    inner = Inner()
    half = {"type": "http.request", "body": b"{", "more_body": True}
    assert await ask(ConcurrencyLimit(inner), "/api/v1/query", half, {"type": "http.disconnect"}) == []
    assert inner.bodies == []


async def test_failed_request_releases_its_slot() -> None:
    inner = Inner()
    line = ConcurrencyLimit(inner)
    for _ in range(2 * MAX_CONCURRENT_REQUESTS):
        with pytest.raises(RuntimeError):
            await ask(line, "/api/v1/fail")
    inner.let.set()
    assert (await ask(line))[0]["status"] == 200


async def test_queue_timeout_is_answered_with_503_and_retry_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrency, "QUEUE_TIMEOUT", 0.01)
    inner = Inner()
    line = ConcurrencyLimit(inner)
    first = [asyncio.create_task(ask(line)) for _ in range(MAX_CONCURRENT_REQUESTS)]
    await settled()
    start, body = await ask(line)
    assert start["status"] == 503 and dict(start["headers"])[b"retry-after"] == b"2"
    assert "try again" in json.loads(body["body"])["detail"]
    inner.let.set()
    await asyncio.gather(*first)
    assert (await ask(line))[0]["status"] == 200


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    running = Site(tmp_path_factory.mktemp("turns") / "data", more={"TELEMETRY_HOST_COLLECTOR": "off"})
    running.start()
    yield running
    running.stop()


@pytest.mark.slow
def test_200_parallel_queries_are_answered_with_little_memory(site: Site) -> None:
    for path, body in build_batches():
        assert site.request("POST", path, body)[0] == 200
    send_burst(site.port, build_queries(20, site.key))
    web = site.child("web")
    assert web is not None
    before = web.memory_info().rss
    found = send_burst(site.port, build_queries(200, site.key))
    assert found.statuses == {200: 200}
    assert web.memory_info().rss - before < MOST_GROWTH
    print(f"p95 {found.percentile(0.95):.2f} s, {(web.memory_info().rss - before) / 2**20:+.0f} MB")
