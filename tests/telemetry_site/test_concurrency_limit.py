"""Requests over the concurrency limit wait in a queue and are answered."""

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

MAX_GROWTH = 48 * 2**20  # bytes that 200 concurrent queries may add to the web process


class BlockingApplication:
    """An application that counts running requests and responds once `release` is set."""

    def __init__(self) -> None:
        self.running = 0
        self.release = asyncio.Event()
        self.bodies: list[bytes] = []

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        self.bodies.append(body)
        if "fail" in scope["path"]:
            raise RuntimeError
        self.running += 1
        if "stream" in scope["path"]:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await self.release.wait()
        if "stream" not in scope["path"]:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})
        self.running -= 1


async def send_request(
    limit: ConcurrencyLimit, path: str = "/api/v1/query", *messages: dict[str, Any]
) -> list[dict[str, Any]]:
    pending = list(messages) or [{"type": "http.request", "body": b"?", "more_body": False}]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if pending:
            return pending.pop(0)
        return await asyncio.Event().wait()  # type: ignore[return-value]  # the client sends nothing more

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await limit({"type": "http", "path": path}, receive, send)
    return sent


async def let_tasks_run() -> None:
    """Let every task run until it waits."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_requests_over_the_limit_wait_and_are_all_answered() -> None:
    inner = BlockingApplication()
    limit = ConcurrencyLimit(inner)
    tasks = [asyncio.create_task(send_request(limit)) for _ in range(5 * MAX_CONCURRENT_REQUESTS)]
    await let_tasks_run()
    assert inner.running == MAX_CONCURRENT_REQUESTS
    health = asyncio.create_task(send_request(limit, "/health"))
    await let_tasks_run()
    assert inner.running == MAX_CONCURRENT_REQUESTS + 1  # /health is not limited
    inner.release.set()
    responses = await asyncio.gather(*tasks, health)
    assert Counter(sent[0]["status"] for sent in responses) == {200: 5 * MAX_CONCURRENT_REQUESTS + 1}
    assert set(inner.bodies) == {b"?"}


async def test_slow_body_or_streamed_response_does_not_count_for_the_limit() -> None:
    inner = BlockingApplication()
    limit = ConcurrencyLimit(inner)
    partial_body = {"type": "http.request", "body": b"{", "more_body": True}
    waiting_tasks = [
        asyncio.create_task(send_request(limit, "/api/v1/query", partial_body)) for _ in range(MAX_CONCURRENT_REQUESTS)
    ]
    waiting_tasks += [
        asyncio.create_task(send_request(limit, "/api/v1/stream")) for _ in range(MAX_CONCURRENT_REQUESTS)
    ]
    await let_tasks_run()
    complete_task = asyncio.create_task(send_request(limit))
    await let_tasks_run()
    assert inner.running == MAX_CONCURRENT_REQUESTS + 1
    for task in [*waiting_tasks, complete_task]:
        task.cancel()


async def test_body_of_any_size_is_passed_on_unchanged() -> None:
    inner = BlockingApplication()
    inner.release.set()
    limit = ConcurrencyLimit(inner)
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
        chunks = [bytes([start % 251]) * min(100_000, size - start) for start in range(0, size, 100_000)] or [b""]
        messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
        await send_request(limit, "/api/v1/query", *messages[:-1], messages[-1] | {"more_body": False})
        assert inner.bodies.pop() == b"".join(chunks)


async def test_disconnect_before_the_end_of_the_body_does_not_call_the_application() -> None:
    inner = BlockingApplication()
    partial_body = {"type": "http.request", "body": b"{", "more_body": True}
    assert await send_request(ConcurrencyLimit(inner), "/api/v1/query", partial_body, {"type": "http.disconnect"}) == []
    assert inner.bodies == []


async def test_failed_request_releases_its_slot() -> None:
    inner = BlockingApplication()
    limit = ConcurrencyLimit(inner)
    for _ in range(2 * MAX_CONCURRENT_REQUESTS):
        with pytest.raises(RuntimeError):
            await send_request(limit, "/api/v1/fail")
    inner.release.set()
    assert (await send_request(limit))[0]["status"] == 200


async def test_queue_timeout_is_answered_with_503_and_retry_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrency, "QUEUE_TIMEOUT", 0.01)
    inner = BlockingApplication()
    limit = ConcurrencyLimit(inner)
    running_tasks = [asyncio.create_task(send_request(limit)) for _ in range(MAX_CONCURRENT_REQUESTS)]
    await let_tasks_run()
    start, body = await send_request(limit)
    assert start["status"] == 503 and dict(start["headers"])[b"retry-after"] == b"2"
    assert "try again" in json.loads(body["body"])["detail"]
    inner.release.set()
    await asyncio.gather(*running_tasks)
    assert (await send_request(limit))[0]["status"] == 200


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    running = Site(tmp_path_factory.mktemp("turns") / "data", variables={"TELEMETRY_HOST_COLLECTOR": "off"})
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
    memory_before = web.memory_info().rss
    burst = send_burst(site.port, build_queries(200, site.key))
    assert burst.statuses == {200: 200}
    assert web.memory_info().rss - memory_before < MAX_GROWTH
    print(f"p95 {burst.percentile(0.95):.2f} s, {(web.memory_info().rss - memory_before) / 2**20:+.0f} MB")
