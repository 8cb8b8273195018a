"""Concurrent lookups become one query: after a restart, thousands of agents send at the same time."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

MAX_BATCH = 1_000

V = TypeVar("V")


class BatchedLookups(Generic[V]):
    """Collects names while a lookup runs, and looks them up together. For one event loop."""

    def __init__(self, look_up: Callable[[Sequence[str]], Awaitable[Mapping[str, V]]]) -> None:
        self._look_up = look_up
        self._waiting: dict[str, asyncio.Future[V]] = {}
        self._running: asyncio.Task[None] | None = None

    async def find(self, name: str) -> V:
        """Return the value of a name. Raises what the lookup raised."""
        future = self._waiting.get(name)
        if future is None:
            future = self._waiting[name] = asyncio.get_running_loop().create_future()
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await asyncio.shield(future)  # a client that leaves does not cancel the lookup of others

    async def _run(self) -> None:
        try:
            while self._waiting:
                names = list(self._waiting)[:MAX_BATCH]
                batch = {name: self._waiting.pop(name) for name in names}
                await self._answer(batch)
        finally:
            self._running = None

    async def _answer(self, batch: Mapping[str, "asyncio.Future[V]"]) -> None:
        try:
            found = await self._look_up(list(batch))
        except Exception as error:
            for future in batch.values():
                future.set_exception(error)
                future.exception()  # the waiting requests may have ended
            return
        for name, future in batch.items():
            future.set_result(found[name])
