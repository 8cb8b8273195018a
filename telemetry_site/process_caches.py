"""The caches and counters that a process keeps in memory, each with the function that empties it.

A forked child has the memory of its parent but none of its threads, so it starts with empty caches. Functions decorated
with `functools.cache` are listed only if their results depend on the database or the settings.
"""

import functools
import os
from collections.abc import Callable
from typing import NamedTuple

from alerts.notifications import channel_lifecycle
from dashboard.api import status
from dashboard.status_page import answers
from dashboard.streams import channels, figures, open_sessions
from ingest import authentication
from ingest.collection import lifecycle
from ingest.collection.kinds import docker, host
from ingest.identity import issuer_tokens, keys, last_used
from ingest.rejected import inbox
from metrics import tasks
from metrics.query import last_seen
from metrics.storage import disk_space, series_registry, shards
from metrics.storage.merge import damaged_blocks
from metrics.storage.read import block_cache, point_totals
from metrics.storage.write import group_commit
from metrics.streams import commit_follower, event_follower
from rest import ip_rate_limit, rate_limit, request_stats
from telemetry_site import health_checks


class ProcessCache(NamedTuple):
    """A module variable and the function that empties it."""

    variable: str
    reset: Callable[[], None]


CACHES = (
    ProcessCache("rest.request_stats.request_counters", request_stats.request_counters.reset),
    ProcessCache("rest.rate_limit.buckets", rate_limit.buckets.reset),
    ProcessCache("rest.ip_rate_limit._proven", ip_rate_limit.clear_proven_credentials),
    ProcessCache("metrics.storage.series_registry._registry", series_registry.reset_registry),
    ProcessCache("metrics.storage.disk_space._reported_at", disk_space.reset),
    ProcessCache("metrics.storage.shards._unreachable", shards.clear_unreachable),
    ProcessCache("metrics.storage.write.group_commit._writer", group_commit.reset_writer),
    ProcessCache("metrics.storage.read.block_cache.decoded_blocks", block_cache.clear_block_cache),
    ProcessCache("metrics.storage.merge.damaged_blocks._logged", damaged_blocks.reset_logged_damage),
    ProcessCache("metrics.storage.read.point_totals.series_devices", point_totals.series_devices.forget),
    ProcessCache("metrics.streams.commit_follower._follower", commit_follower.reset_commit_follower),
    ProcessCache("metrics.streams.event_follower._follower", event_follower.reset_event_follower),
    ProcessCache("metrics.query.last_seen._cache", last_seen.clear_cache),
    ProcessCache("metrics.tasks._states_due_at", tasks.reset_due_times),
    ProcessCache("ingest.authentication._cache", authentication.clear_cache),
    ProcessCache("ingest.authentication._key_lookups", authentication.forget_key_lookups),
    ProcessCache("ingest.identity.keys._members", keys.clear_members),
    ProcessCache("ingest.identity.issuer_tokens.key_set_at", issuer_tokens.key_set_at.cache_clear),
    ProcessCache("ingest.identity.last_used._used", last_used.clear),
    ProcessCache("ingest.collection.kinds.docker._cpu_samples", docker.reset_samples),
    ProcessCache("ingest.collection.kinds.host._sensors", host.reset_sensors),
    ProcessCache("ingest.collection.lifecycle._tries", lifecycle.reset_running_tries),
    ProcessCache("ingest.rejected.inbox._inbox", inbox.reset_inbox),
    ProcessCache("alerts.notifications.channel_lifecycle._tests", channel_lifecycle.reset_running_tests),
    ProcessCache("dashboard.api.status._public", status.clear_cache),
    ProcessCache("dashboard.status_page.answers._cache", answers.clear_cache),
    ProcessCache("dashboard.streams.channels._hub", channels.reset_channels),
    ProcessCache("dashboard.streams.channels._device_sets", channels.clear_device_sets),
    ProcessCache("dashboard.streams.figures._feed", figures.reset_figures),
    ProcessCache("dashboard.streams.open_sessions._open", open_sessions.reset_open_sessions),
    ProcessCache("telemetry_site.health_checks._redis", health_checks.reset_redis_client),
)


def reset() -> None:
    """Empty every cache of this process."""
    for cache in CACHES:
        cache.reset()


@functools.cache
def reset_after_fork() -> None:
    """Empty the caches in each child process that is forked from now on. Further calls do nothing."""
    os.register_at_fork(after_in_child=reset)
