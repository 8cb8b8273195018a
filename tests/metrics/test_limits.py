"""Rate limits as token buckets, in memory and shared through Redis."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis
from django.conf import settings
from django.test import override_settings

from rest import rate_limit
from rest.rate_limit import MAX_BUCKETS, PREFIX, SETTLE, Limit, TokenBuckets
from tests.private_valkey import PrivateValkey

TEN_PER_SECOND = Limit(rate=10, burst=20)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def count_taken_tokens(buckets: TokenBuckets, attempts: int, name: str = "a", limit: Limit = TEN_PER_SECOND) -> int:
    """Return how many of `attempts` tokens are granted."""
    return sum(not buckets.take(name, limit) for _ in range(attempts))


def test_burst_is_allowed_then_the_rate_applies(clock: Clock):
    buckets = TokenBuckets(clock)
    assert count_taken_tokens(buckets, 100) == 20
    assert buckets.take("a", TEN_PER_SECOND) == pytest.approx(0.1) and buckets.wait("a") == pytest.approx(0.1)
    clock.now += 0.5
    assert count_taken_tokens(buckets, 100) == 5
    clock.now += 1000
    assert count_taken_tokens(buckets, 100) == 20
    assert count_taken_tokens(buckets, 100, "b") == 20  # each name has its own bucket


def test_long_term_rate_is_independent_of_pauses(clock: Clock):
    buckets, rng = TokenBuckets(clock), random.Random(1)
    total_taken = 0
    for _ in range(2000):
        clock.now += rng.expovariate(10)
        total_taken += count_taken_tokens(buckets, rng.randint(0, 5))
    assert total_taken <= 20 + 10 * (clock.now - 1000) and total_taken > 0.95 * min(10 * (clock.now - 1000), 2000 * 2.5)


def test_debt_is_limited_to_one_bucket_and_refundable(clock: Clock):
    buckets = TokenBuckets(clock)
    for _ in range(1000):
        buckets.charge("a", TEN_PER_SECOND)
    assert buckets.wait("a") == pytest.approx(2.1)  # a debt of 20, and one token to take
    buckets.charge("a", TEN_PER_SECOND, -30)
    assert count_taken_tokens(buckets, 100) == 10
    assert buckets.wait("never seen") == 0.0


def test_number_of_rate_limit_buckets_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rate_limit, "MAX_BUCKETS", 100)
    buckets = TokenBuckets(clock)
    assert count_taken_tokens(buckets, 50, "the limited address") == 20
    for number in range(1000):
        clock.now += 0.0001
        buckets.charge(f"address {number}", TEN_PER_SECOND)
        assert len(buckets._buckets) <= 100
    clock.now += 10
    for number in range(100):
        buckets.charge(f"other {number}", TEN_PER_SECOND)
    assert set(buckets._buckets) == {f"other {number}" for number in range(100)}  # full buckets are dropped first
    assert MAX_BUCKETS == 100_000


@contextlib.asynccontextmanager
async def settling(*processes: TokenBuckets) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(rate_limit.keep_settled(buckets)) for buckets in processes]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        async with asyncio.timeout(10):
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(buckets, asyncio.CancelledError) for buckets in ended), ended


async def until_settled(*processes: TokenBuckets) -> None:
    async with asyncio.timeout(5):
        while any(buckets._spent for buckets in processes):
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_processes_share_a_rate_limit_through_redis(site: None):
    slow_limit = Limit(rate=0.001, burst=20)
    first, second = TokenBuckets(), TokenBuckets()
    async with settling(first, second):
        assert count_taken_tokens(first, 15, "shared", slow_limit) == 15
        await until_settled(first)
        assert count_taken_tokens(second, 1, "shared", slow_limit) == 1  # it has not read the tokens spent by the first
        await until_settled(second)
        assert count_taken_tokens(second, 100, "shared", slow_limit) == 4
        await until_settled(second)
        assert (
            count_taken_tokens(first, 1, "shared", slow_limit) == 1
            and count_taken_tokens(second, 100, "shared", slow_limit) == 0
        )
        await until_settled(first)
        assert count_taken_tokens(first, 100, "shared", slow_limit) == 0  # one token more than the burst was taken


@pytest.mark.slow
async def test_restarted_process_continues_with_the_spent_tokens(site: None):
    slow_limit = Limit(rate=0.001, burst=20)
    old_process, new_process = TokenBuckets(), TokenBuckets()
    async with settling(old_process, new_process):
        count_taken_tokens(old_process, 20, "restarted", slow_limit)
        await until_settled(old_process)
        assert count_taken_tokens(new_process, 1, "restarted", slow_limit) == 1
        await until_settled(new_process)
        assert count_taken_tokens(new_process, 100, "restarted", slow_limit) == 0


@pytest.mark.slow
async def test_without_redis_each_process_limits_alone_without_delay(tmp_path: Path):
    valkey = PrivateValkey(tmp_path)
    slow_limit = Limit(rate=0.001, burst=20)
    first, second = TokenBuckets(), TokenBuckets()
    try:
        with override_settings(REDIS_URL=valkey.url):
            async with settling(first, second):
                assert count_taken_tokens(first, 5, "a", slow_limit) == 5
                await until_settled(first)
                await asyncio.to_thread(valkey.stop)
                loop = asyncio.get_running_loop()
                started_at = loop.time()
                assert (
                    count_taken_tokens(first, 100, "a", slow_limit) == 15
                    and count_taken_tokens(second, 100, "a", slow_limit) == 20
                )
                assert loop.time() - started_at < 0.05
                await asyncio.sleep(0.3)  # settling fails and is retried
                assert count_taken_tokens(first, 100, "a", slow_limit) == 0
                await asyncio.to_thread(valkey.start)
                await until_settled(first, second)
                client = redis.Redis.from_url(valkey.url)
                tokens_left = float(client.hget(PREFIX + "a", "left"))  # type: ignore[arg-type]
                client.close()
                assert -20 <= tokens_left < -18, (
                    tokens_left
                )  # 40 tokens of 20 were spent, and sent to Redis after its restart
    finally:
        valkey.stop()


def test_redis_script_refills_by_redis_clock_and_expires_full_buckets():
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        client.delete("{t}a", "{t}b")
        script = client.register_script(SETTLE)
        tokens_a, tokens_b = script(["{t}a", "{t}b"], [1000, 50, 30, 0.001, 10, 100])
        assert (float(tokens_a), float(tokens_b)) == (20, -10)
        assert 1 <= client.pttl("{t}a") <= 1030 and client.pttl("{t}b") > 10_000_000
        seconds, micros = client.time()
        client.hset("{t}a", mapping={"left": 20, "at": seconds + micros / 1e6 - 0.01})
        assert 29.9 < float(script(["{t}a"], [1000, 50, 0])[0]) <= 50
