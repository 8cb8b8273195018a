"""An event loop in a thread, for libraries that need one while the caller waits for the database."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

CALL_TIMEOUT = 60.0  # seconds; every coroutine has shorter timeouts of its own

Result = TypeVar("Result")


class EventLoopThread:
    """Runs coroutines for other threads, and background tasks of the library, such as pings."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"{name} event loop", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Return the result of a coroutine. Raises TimeoutError."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(CALL_TIMEOUT)
        except TimeoutError:
            future.cancel()
            raise

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """Run a last coroutine, ignoring its errors, cancel all tasks and end the thread."""
        try:
            self.run(last)
        except Exception:  # noqa: S110 - the connection is given up anyway
            pass
        finally:
            self.run(_cancel_tasks())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(CALL_TIMEOUT)
            self._loop.close()


async def _cancel_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
