"""Functions that run in separate processes on a given database, for example to be killed.

The processes are forked from one that has loaded Django, so that a start takes milliseconds.
"""

import multiprocessing
import multiprocessing.connection
import os
import traceback
from collections.abc import Callable
from typing import Any

import django
from django.db import connections

django.setup()  # for the process that forks; pytest has already called it

TIMEOUT = 60.0  # seconds for one function
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.forked_process", "tests.metrics.process_steps"])

Database = dict[str, str]  # NAME, HOST and so on, as in Django's settings


class ForkedProcess:
    """A function that runs in a forked process."""

    def __init__(self, database: Database, function: Callable[..., Any], *arguments: Any) -> None:
        self._receiver, sender = _context.Pipe(duplex=False)
        self.process = _context.Process(target=_run, args=(sender, database, function, arguments), daemon=True)
        self.process.start()
        sender.close()

    def result(self) -> Any:
        """Return the result of the function; fail with its traceback if it raised."""
        failure, result = self._end()
        assert not failure, failure
        return result

    def failure(self) -> str:
        """Return the traceback of the exception that the function raised."""
        failure, _ = self._end()
        return failure

    def _end(self) -> tuple[str, Any]:
        assert self._receiver.poll(TIMEOUT), "the process takes too long"
        result: tuple[str, Any] = self._receiver.recv()
        self.process.join(TIMEOUT)
        return result

    def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()
        self.process.join(TIMEOUT)


def run_forked(database: Database, function: Callable[..., Any], *arguments: Any) -> Any:
    return ForkedProcess(database, function, *arguments).result()


def _run(
    result_pipe: multiprocessing.connection.Connection,
    database: Database,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    connections["default"].settings_dict.update(database)
    try:
        result_pipe.send(("", function(*arguments)))
    except BaseException:
        result_pipe.send((traceback.format_exc(), None))
    os._exit(0)  # without the exit handlers inherited from the parent process
