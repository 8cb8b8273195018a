"""What a question may cost. It is told before anything is read; large ones take turns.

Blocks are fetched whole, and of most of them only the series that are asked for are decoded: so a question has two
prices, what is in its blocks and about how much of that it is for.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from metrics.query.aggregations import percent_of
from metrics.query.choose_rollups import Share
from metrics.query.query import Question
from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns
from metrics.storage.read.plan import ReadPlan, plan_read, snapshot
from rest.errors import InvalidField, Overloaded

MOST_READ = 200_000_000  # points of the blocks that one question may read
MOST_KEPT = 20_000_000  # points whose values one question may hold at once: percentiles, charts
HEAVY = 2_000_000  # points from which on a question waits for its turn
TURNS = 2  # heavy questions at once in one process
MOST_WAITING = 6  # heavy questions that wait for theirs: each holds a thread that lighter ones need
PATIENCE = 25.0  # seconds that a heavy question waits for its turn

Found = TypeVar("Found")
_turns = threading.BoundedSemaphore(TURNS)
_line = threading.BoundedSemaphore(MOST_WAITING)


def priced(
    question: Question, shares: list[Share], read: Callable[[Connection, list[ReadPlan]], Found], most: int
) -> Found:
    """Plan, refuse what is too much, wait for a turn where it is much, then read."""

    def planned(connection: Connection) -> list[ReadPlan]:
        return [plan_read(connection, one.ids, question.low, question.high, one.rolling) for one in shares]

    with snapshot() as connection:
        plans = planned(connection)
        check_plans(question, plans, most)
        if sum(one.points for one in plans) < HEAVY:
            return read(connection, plans)
        if _turns.acquire(blocking=False):
            with _turn_taken():
                return read(connection, plans)
    with _turn(), snapshot() as connection:
        return read(connection, planned(connection))


def check_plans(question: Question, plans: Sequence[ReadPlan], most: int) -> None:
    """Refuse what would read too much, or more than `most` points of the series that are asked for."""
    _check_price(question, sum(one.expected(young=1.0) for one in plans), most)
    _check_price(question, sum(one.points for one in plans), MOST_READ)


def counted(question: Question, pieces: Iterable[Columns], most: int) -> Iterator[Columns]:
    """The pieces, as long as they are not many more points than was reckoned."""
    had = 0
    for piece in pieces:
        had += len(piece)
        _check_price(question, had, 2 * most)
        yield piece


def kept_most(question: Question) -> int:
    """How many points a question may read: fewer where it needs them all at once."""
    holds = question.aggregation is None or percent_of(question.aggregation) is not None
    return MOST_KEPT if holds else MOST_READ


def _check_price(question: Question, points: int, most: int) -> None:
    if points <= most:
        return
    hours = int((question.high - question.low) / 3_600_000_000 * most / points)
    span = f"{hours // 24} days" if hours >= 48 else f"{hours} hours" if hours > 1 else "less time"
    detail = f"about {points:,} points would be read, and at most {most:,} are; ask for {span}, or for fewer devices"
    raise InvalidField("start_time", detail)


def _turn() -> AbstractContextManager[None]:
    if not _line.acquire(blocking=False):
        raise Overloaded("too many large questions wait to be answered; try again")
    try:
        if not _turns.acquire(timeout=PATIENCE):
            raise Overloaded("too many large questions are being answered; try again")
    finally:
        _line.release()
    return _turn_taken()


@contextmanager
def _turn_taken() -> Iterator[None]:
    try:
        yield
    finally:
        _turns.release()
