"""What runs beside the requests of a web process: keeping the catalogue fresh, noting keys, and an orderly end."""

import asyncio
import gc
import logging
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from ingest.identity import last_used
from ingest.rejected.inbox import stop_inbox
from metrics.storage import series_registry
from metrics.storage.connection import close_pools
from metrics.storage.errors import StorageError
from metrics.storage.write.writer import stop_writer
from rest import rate_limit
from telemetry_site import activity

log = logging.getLogger(__name__)

# Seconds after which a thread that wants the interpreter gets it. Python's 5 ms is what a read or a commit, on its
# thread, would wait several times over while the event loop is busy.
SWITCH_INTERVAL = 0.0005


class Lifespan:
    """The ASGI lifespan protocol."""

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        beside: list[asyncio.Task[None]] = []
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                sys.setswitchinterval(SWITCH_INTERVAL)
                gc.collect()
                gc.freeze()  # what was imported stays; looking through it again and again costs pauses
                beside = [
                    asyncio.create_task(task)
                    for task in (
                        _keep_catalogue_fresh(),
                        _note_used_keys(),
                        activity.keep_writing(),
                        rate_limit.keep_settled(),
                    )
                ]
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                for task in beside:
                    task.cancel()
                await asyncio.to_thread(stop_writer)
                await asyncio.to_thread(activity.write)
                await asyncio.to_thread(last_used.write)
                await asyncio.to_thread(stop_inbox)
                await asyncio.to_thread(close_pools)
                await send({"type": "lifespan.shutdown.complete"})
                return


async def _keep_catalogue_fresh() -> None:
    while True:
        try:
            await asyncio.to_thread(series_registry.refresh_registry)
        except StorageError as error:
            log.warning("definitions and keys could not be refreshed: %s", str(error).split("\n")[0])
        except Exception:  # without this task every key and definition would stay as it is for ever
            log.exception("definitions and keys could not be refreshed")
        await asyncio.sleep(series_registry.REVISION_PERIOD)


async def _note_used_keys() -> None:
    while True:
        await asyncio.sleep(last_used.PERIOD)
        try:
            await asyncio.to_thread(last_used.write)
        except Exception:  # nobody's measurement waits for this
            log.exception("when keys were last used could not be written")
