"""One request to the site while it is answered: what its log line, its timings and its error bodies tell of it."""

import time
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import psycopg


class Visit:
    """Filled by whoever learns something about the request."""

    __slots__ = ("began", "bytes", "caller", "given", "route", "sql_seconds", "statements", "status", "stored")

    def __init__(self, request_id: bytes) -> None:
        self.given = request_id  # as it stands in headers
        self.began = time.perf_counter()
        self.caller = ""  # its name, once it is known
        self.route = ""  # the pattern of the address
        self.status = 0  # of the answer, once it has begun
        self.bytes = 0  # of the answer
        self.stored = False  # whether its measurements are in the journal
        self.statements = 0
        self.sql_seconds = 0.0

    @property
    def id(self) -> str:
        return self.given.decode("ascii")

    def count_statement(self, began: float) -> None:
        """A statement that began then (time.perf_counter) is answered."""
        self.statements += 1
        self.sql_seconds += time.perf_counter() - began


current: ContextVar[Visit | None] = ContextVar("visit", default=None)


def request_id() -> str | None:
    """The id of the request that is being answered; None outside of one."""
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
