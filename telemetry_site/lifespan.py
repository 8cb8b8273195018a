"""Background tasks and shutdown of a web process."""

import asyncio
import gc
import logging
import resource
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from ingest.identity import last_used
from ingest.rejected.inbox import stop_inbox
from metrics.required_revision import refresh_registry
from metrics.statistics import request_history
from metrics.storage import series_registry
from metrics.storage.connection import close_pools
from metrics.storage.disk_probe import probe_disk
from metrics.storage.disk_space import is_disk_full
from metrics.storage.errors import StorageError, StorageUnavailable
from metrics.storage.write.group_commit import stop_writer
from rest import rate_limit
from telemetry_site import consul, process_caches

log = logging.getLogger(__name__)

# Seconds until a waiting thread gets the interpreter lock. With Python's default of 5 ms, reads and commits in other
# threads wait that long several times while the event loop is busy.
SWITCH_INTERVAL = 0.0005
DISK_PROBE_INTERVAL, FULL_DISK_PROBE_INTERVAL = 5.0, 1.0  # seconds
MAX_OPEN_FILES = 65_536
REQUEST_STATS_INTERVAL = 1.0  # seconds between two writes of request statistics


class Lifespan:
    """The ASGI lifespan protocol: starts the background tasks, and stops everything at shutdown."""

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        tasks: list[asyncio.Task[None]] = []
        registration = consul.configured_registration()
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                process_caches.reset_after_fork()
                _raise_file_limit()
                sys.setswitchinterval(SWITCH_INTERVAL)
                gc.collect()
                gc.freeze()  # excludes imported modules from garbage collection, for shorter pauses
                tasks = [
                    asyncio.create_task(task)
                    for task in (
                        _refresh_registry(),
                        _probe_disk(),
                        _write_last_used(),
                        _write_request_stats(),
                        rate_limit.keep_settled(),
                        *([registration.keep()] if registration else []),
                    )
                ]
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                for task in tasks:
                    task.cancel()
                # Beside the other steps, so that a slow agent delays the stop as little as possible.
                removal = asyncio.create_task(registration.remove()) if registration else None
                await asyncio.to_thread(stop_writer)
                await asyncio.to_thread(write_request_stats)
                await asyncio.to_thread(last_used.write_last_used)
                await asyncio.to_thread(stop_inbox)
                await asyncio.to_thread(close_pools)
                if removal is not None:
                    await removal
                await send({"type": "lifespan.shutdown.complete"})
                return


def _raise_file_limit() -> None:
    """Allow as many open files, which include connections, as the system does: the usual soft limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


async def _refresh_registry() -> None:
    while True:
        try:
            await refresh_registry()
        except StorageError as error:
            log.warning("definitions and keys cannot be refreshed: %s", str(error).split("\n")[0])
        except Exception:  # this task must not end: without it definitions and keys are never refreshed
            log.exception("definitions and keys cannot be refreshed")
        await asyncio.sleep(series_registry.REVISION_PERIOD)


async def _probe_disk() -> None:
    while True:
        try:
            await asyncio.to_thread(probe_disk)
        except Exception:
            log.exception("the disk of the database cannot be probed")
        await asyncio.sleep(FULL_DISK_PROBE_INTERVAL if is_disk_full() else DISK_PROBE_INTERVAL)


async def _write_last_used() -> None:
    while True:
        await asyncio.sleep(last_used.WRITE_PERIOD)
        try:
            await asyncio.to_thread(last_used.write_last_used)
        except Exception:
            log.exception("last-used times of API keys cannot be written")


async def _write_request_stats() -> None:
    while True:
        await asyncio.sleep(REQUEST_STATS_INTERVAL)
        await asyncio.to_thread(write_request_stats)


def write_request_stats() -> None:
    """Write the request statistics of this process; failures are logged, and the counts are kept for the next write."""
    try:
        request_history.store_counters()
    except StorageUnavailable as error:
        log.warning("request statistics cannot be written: %s", str(error).split("\n")[0])
    except Exception:
        log.exception("request statistics cannot be written")
