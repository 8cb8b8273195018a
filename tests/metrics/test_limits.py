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
from rest.rate_limit import MAX_BUCKETS, PREFIX, SETTLE, Buckets, Limit
from tests.private_valkey import PrivateValkey

TEN = Limit(rate=10, burst=20)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def taken(buckets: Buckets, many: int, name: str = "a", limit: Limit = TEN) -> int:
    """How many of so many tries succeed."""
    return sum(not buckets.take(name, limit) for _ in range(many))


def test_burst_is_allowed_then_the_rate_applies(clock: Clock):
    buckets = Buckets(clock)
    assert taken(buckets, 100) == 20
    assert buckets.take("a", TEN) == pytest.approx(0.1) and buckets.wait("a") == pytest.approx(0.1)
    clock.now += 0.5
    assert taken(buckets, 100) == 5
    clock.now += 1000
    assert taken(buckets, 100) == 20
    assert taken(buckets, 100, "b") == 20  # each name has its own


def test_long_term_rate_is_independent_of_pauses(clock: Clock):
    buckets, chance = Buckets(clock), random.Random(1)
    found = 0
    for _ in range(2000):
        clock.now += chance.expovariate(10)
        found += taken(buckets, chance.randint(0, 5))
    assert found <= 20 + 10 * (clock.now - 1000) and found > 0.95 * min(10 * (clock.now - 1000), 2000 * 2.5)


def test_debt_is_limited_to_one_bucket_and_refundable(clock: Clock):
    buckets = Buckets(clock)
    for _ in range(1000):
        buckets.charge("a", TEN)
    assert buckets.wait("a") == pytest.approx(2.1)  # 20 owed, and one to take
    buckets.charge("a", TEN, -30)
    assert taken(buckets, 100) == 10
    assert buckets.wait("never seen") == 0.0


def test_number_of_rate_limit_buckets_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rate_limit, "MAX_BUCKETS", 100)
    buckets = Buckets(clock)
    assert taken(buckets, 50, "the guilty one") == 20
    for number in range(1000):
        clock.now += 0.0001
        buckets.charge(f"address {number}", TEN)
        assert len(buckets._buckets) <= 100
    clock.now += 10
    for number in range(100):
        buckets.charge(f"other {number}", TEN)
    assert set(buckets._buckets) == {f"other {number}" for number in range(100)}  # the full ones were forgotten first
    assert MAX_BUCKETS == 100_000


@contextlib.asynccontextmanager
async def settling(*processes: Buckets) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(rate_limit.keep_settled(one)) for one in processes]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in ended), ended


async def until_settled(*processes: Buckets) -> None:
    async with asyncio.timeout(5):
        while any(one._spent for one in processes):
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.05)


async def test_processes_share_a_rate_limit_through_redis(site: None):
    slow = Limit(rate=0.001, burst=20)
    first, second = Buckets(), Buckets()
    async with settling(first, second):
        assert taken(first, 15, "shared", slow) == 15
        await until_settled(first)
        assert taken(second, 1, "shared", slow) == 1  # it has not heard of the first
        await until_settled(second)
        assert taken(second, 100, "shared", slow) == 4
        await until_settled(second)
        assert taken(first, 1, "shared", slow) == 1 and taken(second, 100, "shared", slow) == 0
        await until_settled(first)
        assert taken(first, 100, "shared", slow) == 0  # one more than there was, which is owed


async def test_restarted_process_continues_with_the_spent_tokens(site: None):
    slow = Limit(rate=0.001, burst=20)
    before, after = Buckets(), Buckets()
    async with settling(before, after):
        taken(before, 20, "restarted", slow)
        await until_settled(before)
        assert taken(after, 1, "restarted", slow) == 1
        await until_settled(after)
        assert taken(after, 100, "restarted", slow) == 0


@pytest.mark.slow
async def test_without_redis_each_process_limits_alone_without_delay(tmp_path: Path):
    valkey = PrivateValkey(tmp_path)
    slow = Limit(rate=0.001, burst=20)
    first, second = Buckets(), Buckets()
    try:
        with override_settings(REDIS_URL=valkey.url):
            async with settling(first, second):
                assert taken(first, 5, "a", slow) == 5
                await until_settled(first)
                await asyncio.to_thread(valkey.stop)
                loop = asyncio.get_running_loop()
                began = loop.time()
                assert taken(first, 100, "a", slow) == 15 and taken(second, 100, "a", slow) == 20
                assert loop.time() - began < 0.05
                await asyncio.sleep(0.3)  # settling fails, and goes on
                assert taken(first, 100, "a", slow) == 0
                await asyncio.to_thread(valkey.start)
                await until_settled(first, second)
                client = redis.Redis.from_url(valkey.url)
                left = float(client.hget(PREFIX + "a", "left"))  # type: ignore[arg-type]
                client.close()
                assert -20 <= left < -18, left  # 40 were taken of 20, which Redis was told as soon as it was back
    finally:
        valkey.stop()


def test_redis_script_refills_by_redis_clock_and_expires_full_buckets():
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        client.delete("{t}a", "{t}b")
        script = client.register_script(SETTLE)
        a, b = script(["{t}a", "{t}b"], [1000, 50, 30, 0.001, 10, 100])
        assert (float(a), float(b)) == (20, -10)
        assert 1 <= client.pttl("{t}a") <= 1030 and client.pttl("{t}b") > 10_000_000
        seconds, micros = client.time()
        client.hset("{t}a", mapping={"left": 20, "at": seconds + micros / 1e6 - 0.01})
        assert 29.9 < float(script(["{t}a"], [1000, 50, 0])[0]) <= 50
