"""Rate limits: token buckets in the memory of each process, settled in Redis ten times a second.

Each process refills its buckets by its own clock and takes tokens without any server. Ten times a second one script
subtracts the tokens that it took from the shared buckets in Redis and returns the levels of all processes. Several
processes may together exceed a limit for a tenth of a second; the bucket level is then negative. Without Redis each
process limits on its own.
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

SETTLE_INTERVAL = 0.1  # seconds
REDIS_TIMEOUT = 1.0  # seconds
SETTLE_BATCH = 1000  # buckets of one script, which blocks Redis while it runs
MAX_BUCKETS = 100_000  # per process: about 20 MB
PREFIX = "{telemetry:limits}:"  # the braces keep all buckets on one node of a Redis cluster, as a script requires

# KEYS: buckets. ARGV: rate, burst and spent tokens of each. Returns the level of each, which may be negative.
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
    """`rate` tokens per second, and up to `burst` tokens at once."""

    rate: float
    burst: float


@dataclass(slots=True)
class _Bucket:
    limit: Limit
    left: float
    at: float  # time of `left`, by the clock of the process
    unsettled: float = 0.0  # spent but not settled in Redis

    def refill(self, now: float) -> float:
        self.left = min(self.limit.burst, self.left + (now - self.at) * self.limit.rate)
        self.at = now
        return self.left


@dataclass
class TokenBuckets:
    """Buckets of a process, by name. Thread-safe."""

    clock: Callable[[], float] = time.monotonic
    _buckets: dict[str, _Bucket] = field(default_factory=dict)
    _spent: set[str] = field(default_factory=set)  # names of buckets with unsettled tokens
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, name: str, limit: Limit, tokens: float = 1.0) -> float:
        """Take tokens and return 0.0; take none and return the seconds to wait if there are too few."""
        with self._lock:
            bucket = self._get_or_create(name, limit)
            left = bucket.refill(self.clock())
            if left < tokens:
                return (tokens - left) / limit.rate
            self._spend(name, bucket, tokens)
            return 0.0

    def charge(self, name: str, limit: Limit, tokens: float = 1.0) -> None:
        """Take tokens even if there are too few, down to a level of -burst; negative: return tokens."""
        with self._lock:
            bucket = self._get_or_create(name, limit)
            self._spend(name, bucket, min(tokens, bucket.refill(self.clock()) + limit.burst))

    def wait(self, name: str) -> float:
        """Return the seconds until one token is available; 0.0 if it is now."""
        bucket = self._buckets.get(name)  # without the lock: a refill may be seen late
        if bucket is None or bucket.left >= 1.0:
            return 0.0
        with self._lock:
            return max(0.0, (1.0 - bucket.refill(self.clock())) / bucket.limit.rate)

    def is_full(self, name: str) -> bool:
        """Return whether no token of a bucket is missing, as far as this process knows."""
        with self._lock:
            bucket = self._buckets.get(name)
            return bucket is None or bucket.refill(self.clock()) >= bucket.limit.burst

    def reset(self) -> None:
        """Drop every bucket, so that each starts full."""
        self._buckets, self._spent, self._lock = {}, set(), threading.Lock()

    def _spend(self, name: str, bucket: _Bucket, tokens: float) -> None:
        bucket.left -= tokens
        bucket.unsettled += tokens
        self._spent.add(name)

    def _get_or_create(self, name: str, limit: Limit) -> _Bucket:
        bucket = self._buckets.get(name)
        if bucket is None:
            if len(self._buckets) >= MAX_BUCKETS:
                self._evict()
            bucket = self._buckets[name] = _Bucket(limit, limit.burst, self.clock())
        return bucket

    def _evict(self) -> None:
        """Drop full buckets, and the oldest others down to half of the maximum."""
        now = self.clock()
        kept = {name: it for name, it in self._buckets.items() if it.refill(now) < it.limit.burst}
        self._buckets = dict(list(kept.items())[-(MAX_BUCKETS // 2) :])

    def due(self) -> list[tuple[str, Limit, float]]:
        """Return (name, limit, spent) of up to SETTLE_BATCH unsettled buckets; `settled` or `put_back` must follow."""
        due: list[tuple[str, Limit, float]] = []
        with self._lock:
            while self._spent and len(due) < SETTLE_BATCH:
                name = self._spent.pop()
                if bucket := self._buckets.get(name):
                    due.append((name, bucket.limit, bucket.unsettled))
                    bucket.unsettled = 0.0
        return due

    def put_back(self, due: list[tuple[str, Limit, float]]) -> None:
        """Mark buckets as unsettled again after Redis failed, up to the largest debt of a bucket."""
        with self._lock:
            for name, limit, spent in due:
                if bucket := self._buckets.get(name):
                    bucket.unsettled = min(bucket.unsettled + spent, 2 * limit.burst)
                    self._spent.add(name)

    def settled(self, name: str, left: float) -> None:
        """Set the level that all processes share, less the tokens this process spent meanwhile."""
        with self._lock:
            if bucket := self._buckets.get(name):
                bucket.left, bucket.at = left - bucket.unsettled, self.clock()


buckets = TokenBuckets()


async def keep_settled(settled_buckets: TokenBuckets = buckets) -> None:
    """Settle the buckets until the task is cancelled."""
    task = asyncio.current_task()
    assert task is not None
    reachable = True
    async with redis.asyncio.Redis.from_url(
        settings.REDIS_URL, socket_timeout=REDIS_TIMEOUT, socket_connect_timeout=REDIS_TIMEOUT
    ) as client:
        script = client.register_script(SETTLE)
        while not task.cancelling():  # a cancellation during a request can appear as a timeout of Redis
            await asyncio.sleep(SETTLE_INTERVAL if reachable else REDIS_TIMEOUT)
            due = settled_buckets.due()
            if not due:
                continue
            try:
                await _settle(settled_buckets, script, due)
            except (redis.RedisError, OSError) as error:
                settled_buckets.put_back(due)
                if reachable:
                    log.warning("Redis is unavailable: rate limits apply per process (%s)", error)
                reachable = False
            else:
                if not reachable:
                    log.info("Redis is available again: rate limits are shared")
                reachable = True
    raise asyncio.CancelledError


async def _settle(settled_buckets: TokenBuckets, script: Any, due: list[tuple[str, Limit, float]]) -> None:
    arguments = [number for _, limit, spent in due for number in (limit.rate, limit.burst, spent)]
    levels = await script([PREFIX + name for name, _, _ in due], arguments)
    for (name, _, _), level in zip(due, levels, strict=True):
        settled_buckets.settled(name, float(level))


def check_caller(name: str) -> None:
    """Count a request of an API key or service. Raises RateLimited. People are not limited."""
    if settings.RATE_PER_KEY is None or name.startswith("user:"):
        return
    if wait := buckets.take(f"caller {name}", Limit(*settings.RATE_PER_KEY)):
        raise RateLimited("too many requests with this key", wait)
