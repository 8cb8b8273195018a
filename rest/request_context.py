"""State of the current request, for its log line, Server-Timing and error bodies."""

import time
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import psycopg


class Visit:
    """Data of one request, filled while it is processed."""

    __slots__ = (
        "began", "bytes", "caller", "given", "revision", "route", "sql_seconds", "statements", "status", "stored",
    )  # fmt: skip

    def __init__(self, request_id: bytes) -> None:
        self.given = request_id  # as in headers
        self.began = time.perf_counter()
        self.caller = ""  # name of the caller, once authenticated
        self.route = ""  # URL pattern
        self.status = 0  # of the response, once it has started
        self.revision = -1  # whose changes the response is made with; -1: none is known
        self.bytes = 0  # size of the response
        self.stored = False  # whether its points are in the journal
        self.statements = 0
        self.sql_seconds = 0.0

    @property
    def id(self) -> str:
        return self.given.decode("ascii")

    def count_statement(self, began: float) -> None:
        """Count a finished SQL statement that began at this time.perf_counter."""
        self.statements += 1
        self.sql_seconds += time.perf_counter() - began


current: ContextVar[Visit | None] = ContextVar("visit", default=None)


def request_id() -> str | None:
    """Return the ID of the current request; None outside of a request."""
    visit = current.get()
    return None if visit is None else visit.id


class CountingCursor(psycopg.Cursor[Any]):
    """A cursor of the storage whose statements count for the request that asks them."""

    def execute(self, query: Any, params: Sequence[Any] | Any = None, **more: Any) -> "CountingCursor":
        visit = current.get()
        if visit is None:
            super().execute(query, params, **more)
            return self
        began = time.perf_counter()
        try:
            super().execute(query, params, **more)
        finally:
            visit.count_statement(began)
        return self
