"""Health checks of the service's components, run in parallel with a timeout each."""

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as CheckTimeout
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import redis
from django.conf import settings

from ingest.collection.health import CollectorHealth, read_collector_health
from metrics.alert_summary import registered_summary
from metrics.statistics import request_history
from metrics.storage.connection import monitoring_connection
from metrics.storage.disk_space import is_disk_full
from metrics.storage.errors import StorageUnavailable
from metrics.storage.merge.damaged_blocks import DamageCount, count_damage
from metrics.storage.read.merge_backlog import UnmergedBacklog, read_unmerged_backlog, seconds_since_heartbeat
from metrics.storage.write.group_commit import MAX_QUEUED_POINTS, running_writer
from metrics.streams.commit_follower import follower
from telemetry_site.bus.health import BusHealth, read_bus_health
from telemetry_site.middleware.websocket_count import WebSocketCount

HEALTHY, DEGRADED, UNHEALTHY = "healthy", "degraded", "unhealthy"  # in ascending severity
CHECK_TIMEOUT = 1.5  # seconds; longer than the timeouts inside the checks
REDIS_TIMEOUT = 1.0  # seconds
MAX_MERGE_DELAY = 120.0  # seconds that the oldest commit may wait to be merged
MAX_HEARTBEAT_AGE = 60.0  # seconds; workers write a heartbeat every 10 s
MAX_QUEUE_FRACTION = 0.5  # of the writer's queue
CHECK_THREADS = 6

_COMMITS = "SELECT coalesce(sum(seq), 0)::bigint FROM metrics_head"

log = logging.getLogger(__name__)

Result = TypeVar("Result")
_executor = ThreadPoolExecutor(max_workers=CHECK_THREADS, thread_name_prefix="health")
_redis: redis.Redis | None = None


class ComponentHealth(NamedTuple):
    """Status and reason of a component."""

    status: str
    detail: str


@dataclass(frozen=True, slots=True)
class DatabaseFigures:
    """Results of the database check."""

    round_trip: float  # seconds
    commits: int
    backlog: UnmergedBacklog
    damage: DamageCount
    heartbeat_age: float | None  # seconds since the last heartbeat of a worker; None if there was none
    recent: request_history.RecentRequests
    bus: BusHealth
    collectors: CollectorHealth


def run_checks() -> tuple[dict[str, ComponentHealth], dict[str, Any]]:
    """Return the health of each component, and the figures."""
    database, cache = _executor.submit(_database_figures), _executor.submit(redis_answers)
    alerts = _executor.submit(registered_summary().health)
    figures, redis_is_up = _result(database), _result(cache) or False
    components = {
        "data_ingestion": _ingestion(figures),
        "time_series_db": _storage(figures),
        "alert_engine": ComponentHealth(
            *(_result(alerts) or (UNHEALTHY, "the check of rule evaluation does not answer"))
        ),
        "real_time_stream": _stream(redis_is_up),
    }
    if figures is not None and figures.bus.is_shown:
        components["event_bus"] = _event_bus(figures.bus)
    if figures is not None and figures.collectors.enabled:
        status = DEGRADED if figures.collectors.overdue else HEALTHY
        components["collectors"] = ComponentHealth(status, figures.collectors.detail)
    return components, _performance(figures, redis_is_up)


def overall(components: dict[str, ComponentHealth]) -> str:
    """Return unhealthy if points cannot be stored or read; degraded if any component is not healthy."""
    if UNHEALTHY in (components["data_ingestion"].status, components["time_series_db"].status):
        return UNHEALTHY
    return HEALTHY if all(component.status == HEALTHY for component in components.values()) else DEGRADED


def database_answers() -> bool:
    """Return whether the database answers a query."""
    try:
        with monitoring_connection() as connection:
            connection.execute("SELECT 1")
    except StorageUnavailable:
        return False
    return True


def can_store() -> bool:
    """Return whether the database answers and its disk has space."""
    return database_answers() and not is_disk_full()


def redis_answers() -> bool:
    """Return whether Redis answers PING."""
    global _redis
    try:
        if _redis is None:
            timeouts = {"socket_timeout": REDIS_TIMEOUT, "socket_connect_timeout": REDIS_TIMEOUT}
            _redis = redis.Redis.from_url(settings.REDIS_URL, **timeouts)
        return bool(_redis.ping())
    except redis.RedisError:
        return False


def reset_redis_client() -> None:
    """Drop the Redis client; the next check connects with the current settings."""
    global _redis
    _redis = None


def _result(check: Future[Result]) -> Result | None:
    """Return the result of a check; None if it timed out or failed."""
    try:
        return check.result(CHECK_TIMEOUT)
    except (CheckTimeout, StorageUnavailable):
        return None
    except Exception:  # a failed check must not fail the health request
        log.exception("a health check failed")
        return None


def _database_figures() -> DatabaseFigures:
    with monitoring_connection() as connection:
        began = time.perf_counter()
        [commits] = connection.execute(_COMMITS).fetchone() or (0,)
        round_trip = time.perf_counter() - began
        return DatabaseFigures(
            round_trip,
            commits,
            read_unmerged_backlog(connection),
            count_damage(connection),
            seconds_since_heartbeat(connection),
            request_history.read_recent(connection),
            read_bus_health(connection),
            read_collector_health(connection),
        )


def _event_bus(health: BusHealth) -> ComponentHealth:
    problems = health.problems
    return (
        ComponentHealth(DEGRADED, "; ".join(problems)) if problems else ComponentHealth(HEALTHY, "events are delivered")
    )


def _ingestion(figures: DatabaseFigures | None) -> ComponentHealth:
    writer = running_writer()
    if is_disk_full():
        return ComponentHealth(UNHEALTHY, "points cannot be stored: the disk of the database is full")
    if figures is None:
        return ComponentHealth(UNHEALTHY, "points cannot be stored: the database does not answer")
    if writer is not None and writer.is_disconnected:
        return ComponentHealth(
            DEGRADED, "the writer of this process has lost its database connection and is reconnecting"
        )
    if writer is not None and writer.queued_points > MAX_QUEUE_FRACTION * MAX_QUEUED_POINTS:
        return ComponentHealth(DEGRADED, "points arrive faster than they are stored")
    return ComponentHealth(HEALTHY, "points are stored without delay")


def _storage(figures: DatabaseFigures | None) -> ComponentHealth:
    if figures is None:
        return ComponentHealth(UNHEALTHY, "the database does not answer")
    if figures.damage.blocks:
        return ComponentHealth(DEGRADED, _damage_detail(figures.damage))
    if figures.heartbeat_age is not None and figures.heartbeat_age > MAX_HEARTBEAT_AGE:
        return ComponentHealth(DEGRADED, f"no worker has sent a heartbeat for {figures.heartbeat_age:.0f} seconds")
    if figures.backlog.oldest_seconds > MAX_MERGE_DELAY:
        return ComponentHealth(
            DEGRADED, f"the oldest unmerged commit has waited {figures.backlog.oldest_seconds:.0f} seconds"
        )
    return ComponentHealth(
        HEALTHY, "no worker has sent a heartbeat yet" if figures.heartbeat_age is None else "commits are merged in time"
    )


def _damage_detail(damage: DamageCount) -> str:
    blocks, verb, them = ("block", "is", "it") if damage.blocks == 1 else ("blocks", "are", "them")
    return (
        f"{damage.blocks:,} damaged {blocks} ({damage.points:,} points) {verb} set aside: restore {them} from a backup"
    )


def _stream(redis_is_up: bool) -> ComponentHealth:
    if redis_is_up:
        return ComponentHealth(HEALTHY, "values and notices are streamed")
    return ComponentHealth(
        DEGRADED, "Redis does not answer: values are streamed, notices of alerts and exports are not"
    )


def _performance(figures: DatabaseFigures | None, redis_is_up: bool) -> dict[str, Any]:
    """Return the performance figures; None for those that could not be measured."""
    writer = running_writer()
    performance: dict[str, Any] = dict.fromkeys(
        (
            "database_round_trip_ms", "commits", "commits_to_merge", "points_to_merge", "oldest_commit_seconds",
            "damaged_blocks", "worker_heard_seconds_ago", "points_per_second", "avg_latency_ms", "p95_latency_ms",
            "error_rate", "bus", "collectors",
        )
    )  # fmt: skip
    performance |= {
        "points_waiting_here": writer.queued_points if writer else 0,
        "sockets_here": WebSocketCount.open,
        "commits_decoded_here": follower().decoded_commits,
        "redis": "up" if redis_is_up else "down",
    }
    if figures is not None:
        requests = request_history.format_counts(figures.recent.all)
        performance |= {
            "database_round_trip_ms": round(1000 * figures.round_trip, 3),
            "commits": figures.commits,
            "commits_to_merge": figures.backlog.commits,
            "points_to_merge": figures.backlog.points,
            "oldest_commit_seconds": round(figures.backlog.oldest_seconds, 3),
            "damaged_blocks": figures.damage.blocks,
            "worker_heard_seconds_ago": None if figures.heartbeat_age is None else round(figures.heartbeat_age, 3),
            "points_per_second": round(figures.recent.points_per_second, 3),
            "avg_latency_ms": requests["avg_latency"],
            "p95_latency_ms": requests["p95_latency"],
            "error_rate": requests["error_rate"],
            "bus": figures.bus.figures(),
            "collectors": figures.collectors._asdict(),
        }
    return performance
