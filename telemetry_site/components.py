"""How the parts of the service are: asked side by side, each within its time, and judged."""

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import redis
from django.conf import settings

from metrics.alert_summary import registered_summary
from metrics.statistics import request_history
from metrics.storage.connection import monitoring_connection
from metrics.storage.errors import StorageUnavailable
from metrics.storage.read.merge_backlog import UnmergedBacklog, read_unmerged_backlog, seconds_since_heartbeat
from metrics.storage.write.writer import MAX_QUEUED_POINTS, running_writer
from telemetry_site.activity import Sockets

HEALTHY, DEGRADED, UNHEALTHY = "healthy", "degraded", "unhealthy"  # in the order of their weight
PATIENCE = 1.5  # seconds for each check: longer than what each gives itself
REDIS_PATIENCE = 1.0  # seconds
BACKLOG_PATIENCE = 120.0  # seconds that the oldest commit may wait to be merged
WORKER_PATIENCE = 60.0  # seconds between signs of life of the workers, which give one every ten
QUEUE = 0.5  # share of the writer's queue that may be taken

_HEADS = "SELECT coalesce(sum(seq), 0)::bigint FROM metrics_head"

log = logging.getLogger(__name__)

Found = TypeVar("Found")
_checks = ThreadPoolExecutor(max_workers=6, thread_name_prefix="health")
_redis: redis.Redis | None = None


class Component(NamedTuple):
    status: str
    detail: str


@dataclass(frozen=True, slots=True)
class Database:
    """What the database told."""

    round_trip: float  # seconds
    commits: int
    backlog: UnmergedBacklog
    worker_age: float | None  # seconds; None: never heard of
    recent: request_history.Recent


def ask() -> tuple[dict[str, Component], dict[str, Any]]:
    """The components and their figures."""
    database, cache = _checks.submit(_database), _checks.submit(redis_answers)
    alerts = _checks.submit(registered_summary().health)
    told, reached = _within(database), _within(cache) or False
    components = {
        "data_ingestion": _ingestion(told),
        "time_series_db": _storage(told),
        "alert_engine": Component(*(_within(alerts) or (UNHEALTHY, "it does not answer"))),
        "real_time_stream": _stream(reached),
    }
    return components, _figures(told, reached)


def overall(components: dict[str, Component]) -> str:
    """Unhealthy where measurements can neither come in nor be read; degraded where anything is not as it should be."""
    if UNHEALTHY in (components["data_ingestion"].status, components["time_series_db"].status):
        return UNHEALTHY
    return HEALTHY if all(one.status == HEALTHY for one in components.values()) else DEGRADED


def database_answers() -> bool:
    try:
        with monitoring_connection() as connection:
            connection.execute("SELECT 1")
    except StorageUnavailable:
        return False
    return True


def redis_answers() -> bool:
    global _redis
    try:
        if _redis is None:
            patience = {"socket_timeout": REDIS_PATIENCE, "socket_connect_timeout": REDIS_PATIENCE}
            _redis = redis.Redis.from_url(settings.REDIS_URL, **patience)
        return bool(_redis.ping())
    except redis.RedisError:
        return False


def _within(check: Future[Found]) -> Found | None:
    """What a check found; None where it found nobody, not in time, or failed."""
    try:
        return check.result(PATIENCE)
    except (TooLate, StorageUnavailable):
        return None
    except Exception:  # whoever asks how it is must get an answer
        log.exception("a check of health failed")
        return None


def _database() -> Database:
    with monitoring_connection() as connection:
        began = time.perf_counter()
        [commits] = connection.execute(_HEADS).fetchone() or (0,)
        round_trip = time.perf_counter() - began
        return Database(
            round_trip,
            commits,
            read_unmerged_backlog(connection),
            seconds_since_heartbeat(connection),
            request_history.recent(connection),
        )


def _ingestion(told: Database | None) -> Component:
    writer = running_writer()
    if told is None:
        return Component(UNHEALTHY, "measurements cannot be stored: the database does not answer")
    if writer is not None and writer.is_lost:
        return Component(DEGRADED, "the writer of this process has lost the database and is looking for it")
    if writer is not None and writer.waiting_points > QUEUE * MAX_QUEUED_POINTS:
        return Component(DEGRADED, "points come in faster than they are stored")
    return Component(HEALTHY, "points are stored as they come")


def _storage(told: Database | None) -> Component:
    if told is None:
        return Component(UNHEALTHY, "the database does not answer")
    if told.worker_age is not None and told.worker_age > WORKER_PATIENCE:
        return Component(DEGRADED, f"no worker was heard of for {told.worker_age:.0f} seconds")
    if told.backlog.oldest_seconds > BACKLOG_PATIENCE:
        return Component(DEGRADED, f"commits wait for {told.backlog.oldest_seconds:.0f} seconds to be merged")
    return Component(HEALTHY, "no worker was heard of yet" if told.worker_age is None else "commits are merged in time")


def _stream(reached: bool) -> Component:
    if reached:
        return Component(HEALTHY, "values flow")
    return Component(DEGRADED, "Redis does not answer: values flow, what else pages are told of does not")


def _figures(told: Database | None, reached: bool) -> dict[str, Any]:
    """What can be measured now; null is what could not be."""
    writer = running_writer()
    found: dict[str, Any] = dict.fromkeys(
        (
            "database_round_trip_ms", "commits", "commits_to_merge", "points_to_merge", "oldest_commit_seconds",
            "worker_heard_seconds_ago", "points_per_second", "avg_latency_ms", "p95_latency_ms", "error_rate",
        )
    )  # fmt: skip
    found |= {
        "points_waiting_here": writer.waiting_points if writer else 0,
        "sockets_here": Sockets.open,
        "redis": "up" if reached else "down",
    }
    if told is not None:
        fared = request_history.shape(told.recent.all)
        found |= {
            "database_round_trip_ms": round(1000 * told.round_trip, 3),
            "commits": told.commits,
            "commits_to_merge": told.backlog.commits,
            "points_to_merge": told.backlog.points,
            "oldest_commit_seconds": round(told.backlog.oldest_seconds, 3),
            "worker_heard_seconds_ago": None if told.worker_age is None else round(told.worker_age, 3),
            "points_per_second": round(told.recent.points_per_second, 3),
            "avg_latency_ms": fared["avg_latency"],
            "p95_latency_ms": fared["p95_latency"],
            "error_rate": fared["error_rate"],
        }
    return found
