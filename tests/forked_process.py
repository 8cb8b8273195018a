"""Functions run in processes of their own, on the database that they are told: to be killed, or to set up their own.

They are forked from one process that has Django loaded and nothing else running, so one costs milliseconds.
"""

import multiprocessing
import multiprocessing.connection
import os
import traceback
from collections.abc import Callable
from typing import Any

import django
from django.db import connections

django.setup()  # where this is loaded before the fork; under pytest it is done already

PATIENCE = 60.0  # seconds for one function
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.forked_process", "tests.metrics.process_steps"])

Database = dict[str, str]  # NAME, HOST and so on, as in Django's settings


class ForkedProcess:
    """A function that runs in a process of its own."""

    def __init__(self, database: Database, function: Callable[..., Any], *given: Any) -> None:
        self._answer, far_end = _context.Pipe(duplex=False)
        self.process = _context.Process(target=_run, args=(far_end, database, function, given), daemon=True)
        self.process.start()
        far_end.close()

    def result(self) -> Any:
        """What the function returned; fails with what it raised."""
        failure, found = self._end()
        assert not failure, failure
        return found

    def failure(self) -> str:
        """The traceback of what it raised."""
        failure, _ = self._end()
        return failure

    def _end(self) -> tuple[str, Any]:
        assert self._answer.poll(PATIENCE), "the process takes too long"
        end: tuple[str, Any] = self._answer.recv()
        self.process.join(PATIENCE)
        return end

    def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()
        self.process.join(PATIENCE)


def run_forked(database: Database, function: Callable[..., Any], *given: Any) -> Any:
    return ForkedProcess(database, function, *given).result()


def _run(
    answer: multiprocessing.connection.Connection,
    database: Database,
    function: Callable[..., Any],
    given: tuple[Any, ...],
) -> None:
    connections["default"].settings_dict.update(database)
    try:
        answer.send(("", function(*given)))
    except BaseException:
        answer.send((traceback.format_exc(), None))
    os._exit(0)  # without the clean-up of what the parent process had
