"""What a question may cost. It is told before anything is read; large ones take turns."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from metrics.aggregation import percent_of
from metrics.errors import Overloaded, Unanswerable
from metrics.questions.question import Question
from metrics.storage.codec import Ints
from metrics.storage.connection import Connection
from metrics.storage.scan import Plan, plan, snapshot

MOST_READ = 200_000_000  # points of the blocks that one question may read
MOST_KEPT = 20_000_000  # points whose values one question may hold at once: percentiles, charts
HEAVY = 2_000_000  # points from which on a question waits for its turn
TURNS = 2  # heavy questions at once in one process
PATIENCE = 25.0  # seconds that a heavy question waits for its turn

Found = TypeVar("Found")
_turns = threading.BoundedSemaphore(TURNS)


def priced(question: Question, ids: Ints, read: Callable[[Connection, Plan], Found], most: int) -> Found:
    """Plan, refuse what is too much, wait for a turn where it is much, then read."""
    with snapshot() as connection:
        planned = plan(connection, ids, question.low, question.high)
        check_price(question, planned.points, most)
        if planned.points < HEAVY:
            return read(connection, planned)
    with _turn(), snapshot() as connection:
        return read(connection, plan(connection, ids, question.low, question.high))


def kept_most(question: Question) -> int:
    """How many points a question may read: fewer where it needs them all at once."""
    holds = question.aggregation is None or percent_of(question.aggregation) is not None
    return MOST_KEPT if holds else MOST_READ


def check_price(question: Question, points: int, most: int) -> None:
    """Refuse what would read more than `most` points, and say how much less to ask for."""
    if points <= most:
        return
    hours = int((question.high - question.low) / 3_600_000_000 * most / points)
    span = f"{hours // 24} days" if hours >= 48 else f"{hours} hours" if hours > 1 else "less time"
    detail = f"about {points:,} points would be read, and at most {most:,} are; ask for {span}, or for fewer devices"
    raise Unanswerable("start_time", detail)


@contextmanager
def _turn() -> Iterator[None]:
    if not _turns.acquire(timeout=PATIENCE):
        raise Overloaded("too many large questions are being answered; try again")
    try:
        yield
    finally:
        _turns.release()
