"""How much somebody may do in a time: token buckets, served from memory and settled in Redis ten times a second.

What a bucket holds is known to each process, which refills it by its own clock and spends from it: a dictionary and a
subtraction, and no server is asked. Ten times a second the process tells Redis, in one script for all buckets, what it
has spent, and learns what all processes have left. So several of them may together spend more than there is for a
tenth of a second; the bucket then owes it. Without Redis each process counts alone.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import redis.asyncio
from django.conf import settings

from rest.errors import RateLimited

log = logging.getLogger(__name__)

PERIOD = 0.1  # seconds between two settlements
REDIS_PATIENCE = 1.0  # seconds
MOST_TOGETHER = 1000  # buckets of one script, which nothing else of Redis may overtake
MOST_BUCKETS = 100_000  # remembered in a process: some 20 MB
PREFIX = "{telemetry:limits}:"  # in braces: one node of a Redis cluster holds all, for one script

# KEYS: buckets. ARGV: rate, burst and what was spent, for each. Answers what each has left; below zero, what it owes.
SETTLE = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local left = {}
for i, key in ipairs(KEYS) do
  local rate, burst, spent = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local held = redis.call('HMGET', key, 'left', 'at')
  local level = tonumber(held[1]) or burst
  level = math.min(burst, level + (now - (tonumber(held[2]) or now)) * rate) - spent
  level = math.max(level, -burst)
  redis.call('HSET', key, 'left', tostring(level), 'at', string.format('%.6f', now))
  redis.call('PEXPIRE', key, math.ceil((burst - level) / rate * 1000) + 1000)
  left[i] = tostring(level)
end
return left
"""


@dataclass(frozen=True, slots=True)
class Limit:
    """So many a second, and so many at once after a pause."""

    rate: float
    burst: float


@dataclass(slots=True)
class _Bucket:
    limit: Limit
    left: float
    at: float  # when `left` was so, by the clock of the process
    unsettled: float = 0.0  # spent, and not yet told to Redis

    def refill(self, now: float) -> float:
        self.left = min(self.limit.burst, self.left + (now - self.at) * self.limit.rate)
        self.at = now
        return self.left


@dataclass
class Buckets:
    """The buckets of a process, by name. Thread-safe."""

    clock: Callable[[], float] = time.monotonic
    _buckets: dict[str, _Bucket] = field(default_factory=dict)
    _spent: set[str] = field(default_factory=set)  # names of those with something unsettled
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, name: str, limit: Limit, tokens: float = 1.0) -> float:
        """Take tokens: 0.0 where there were enough, else the seconds until there are, and none is taken."""
        with self._lock:
            bucket = self._found(name, limit)
            left = bucket.refill(self.clock())
            if left < tokens:
                return (tokens - left) / limit.rate
            self._spend(name, bucket, tokens)
            return 0.0

    def charge(self, name: str, limit: Limit, tokens: float = 1.0) -> None:
        """Take tokens whether there are enough or not (negative: give back), down to a whole bucket owed."""
        with self._lock:
            bucket = self._found(name, limit)
            self._spend(name, bucket, min(tokens, bucket.refill(self.clock()) + limit.burst))

    def wait(self, name: str) -> float:
        """Seconds until one more could be taken; 0.0 where it could now."""
        bucket = self._buckets.get(name)  # without the lock: at worst a refill is seen a moment late
        if bucket is None or bucket.left >= 1.0:
            return 0.0
        with self._lock:
            return max(0.0, (1.0 - bucket.refill(self.clock())) / bucket.limit.rate)

    def reset(self) -> None:
        """Drop every bucket, so that each starts full."""
        self._buckets, self._spent, self._lock = {}, set(), threading.Lock()

    def _spend(self, name: str, bucket: _Bucket, tokens: float) -> None:
        bucket.left -= tokens
        bucket.unsettled += tokens
        self._spent.add(name)

    def _found(self, name: str, limit: Limit) -> _Bucket:
        bucket = self._buckets.get(name)
        if bucket is None:
            if len(self._buckets) >= MOST_BUCKETS:
                self._let_go()
            bucket = self._buckets[name] = _Bucket(limit, limit.burst, self.clock())
        return bucket

    def _let_go(self) -> None:
        """Forget buckets that are full again, and the older half where most are not."""
        now = self.clock()
        kept = {name: one for name, one in self._buckets.items() if one.refill(now) < one.limit.burst}
        self._buckets = dict(list(kept.items())[-(MOST_BUCKETS // 2) :])

    def due(self) -> list[tuple[str, Limit, float]]:
        """(name, limit, spent) of what Redis has not been told, some of them. `settled` or `put_back` follows."""
        found: list[tuple[str, Limit, float]] = []
        with self._lock:
            while self._spent and len(found) < MOST_TOGETHER:
                name = self._spent.pop()
                if bucket := self._buckets.get(name):
                    found.append((name, bucket.limit, bucket.unsettled))
                    bucket.unsettled = 0.0
        return found

    def put_back(self, due: list[tuple[str, Limit, float]]) -> None:
        """Redis could not be told: it is due still, as far as a bucket can owe."""
        with self._lock:
            for name, limit, spent in due:
                if bucket := self._buckets.get(name):
                    bucket.unsettled = min(bucket.unsettled + spent, 2 * limit.burst)
                    self._spent.add(name)

    def settled(self, name: str, left: float) -> None:
        """What all processes together have left, but for what this one has spent since."""
        with self._lock:
            if bucket := self._buckets.get(name):
                bucket.left, bucket.at = left - bucket.unsettled, self.clock()


buckets = Buckets()


async def keep_settled(held: Buckets = buckets) -> None:
    """Settle for as long as the process lives."""
    reachable = True
    async with redis.asyncio.Redis.from_url(
        settings.REDIS_URL, socket_timeout=REDIS_PATIENCE, socket_connect_timeout=REDIS_PATIENCE
    ) as client:
        script = client.register_script(SETTLE)
        while True:
            await asyncio.sleep(PERIOD if reachable else REDIS_PATIENCE)
            due = held.due()
            if not due:
                continue
            try:
                await _settle(held, script, due)
            except (redis.RedisError, OSError) as error:
                held.put_back(due)
                if reachable:
                    log.warning("Redis cannot be asked: each process limits by itself (%s)", error)
                reachable = False
            else:
                if not reachable:
                    log.info("Redis answers again: limits are shared")
                reachable = True


async def _settle(held: Buckets, script: Any, due: list[tuple[str, Limit, float]]) -> None:
    arguments = [one for _, limit, spent in due for one in (limit.rate, limit.burst, spent)]
    left = await script([PREFIX + name for name, _, _ in due], arguments)
    for (name, _, _), one in zip(due, left, strict=True):
        held.settled(name, float(one))


def check_caller(name: str) -> None:
    """One request of a key or a service. Raises RateLimited; people, who come by hand, are not counted."""
    if settings.RATE_PER_KEY is None or name.startswith("user:"):
        return
    if wait := buckets.take(f"caller {name}", Limit(*settings.RATE_PER_KEY)):
        raise RateLimited("more requests with this key than it may send", wait)
