"""Points as they are: series by series, page by page."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from metrics.query.choose_rollups import Share, for_chart, left_out, shares
from metrics.query.downsample import Readings, joined, listed, thinned
from metrics.query.latest import moment
from metrics.query.limits import MOST_READ, counted, kept_most, priced
from metrics.query.query import Label, Question
from metrics.query.result import Answer, Asked, Group, filtered, from_cursor, unit_in
from metrics.storage.connection import Connection
from metrics.storage.format.codec import NO_CONTEXT, Columns, concatenate
from metrics.storage.read.plan import ReadPlan, plan_read, snapshot
from metrics.storage.read.scan import read_points, read_rollups
from metrics.storage.series_registry import cached_registry

TOGETHER = 2_000_000  # points of the blocks of several series that are read together


def points(question: Question, found: list[Asked]) -> Answer:
    """The points of every series, series by series. Series are read several together, more and more of them."""
    by_label: dict[Label, list[Asked]] = {}
    for one in found:  # a metric that was sent in several kinds of value is several series
        by_label.setdefault(one.label, []).append(one)
    answer, after = Answer(question), question.begins_after()
    rolling = for_chart(question)
    if rolling[0] is None:
        answer.missing += left_out(question, found, None)
    labels = from_cursor(list(by_label), after)
    at, width = 0, 1
    while at < len(labels):
        width = min(width, len(labels) - at)
        together = [one for label in labels[at : at + width] for one in by_label[label]]
        if width > 1 and _merged_points(question, shares(together, *rolling, question.max_points)) > TOGETHER:
            width //= 2
            continue
        need = question.limit - answer.count + 1 if len(together) == 1 and question.max_points is None else None
        columns = _columns(
            _from(question, labels[at], after), shares(together, *rolling, question.max_points), need, answer
        )
        for label in labels[at : at + width]:
            kinds = {one.id: one.kind for one in by_label[label] if one.id in columns}
            readings = joined({number: columns[number] for number in kinds}, kinds)
            if not _append(answer, label, readings):
                return answer
        at, width = at + width, width * 2
    return answer


def _merged_points(question: Question, together: list[Share]) -> int:
    with snapshot() as connection:
        plans = [plan_read(connection, one.ids, question.low, question.high, one.rolling) for one in together]
    return sum(planned.points - planned.young_points for planned in plans)


def _from(question: Question, label: Label, after: tuple[Label, int] | None) -> Question:
    """The question with what was on the pages before left out; the first series is always read alone."""
    if after is None or after[0] != label:
        return question
    return replace(question, start=moment(after[1] + 1))


def _columns(question: Question, together: list[Share], need: int | None, answer: Answer) -> dict[int, Columns]:
    """The points of some series; of a single one no more days than it takes to have `need`."""

    def read(connection: Connection, plans: list[ReadPlan]) -> dict[int, Columns]:
        pieces: dict[int, list[Columns]] = {}
        had = 0
        for planned in plans:
            for kept in _pieces(connection, planned, question):
                for place, number in enumerate(kept.ids.tolist()):
                    pieces.setdefault(number, []).append(kept.part(place, place + 1))
                had += len(kept)
                if need is not None and had >= need:
                    break
            answer.note(planned)
        return {number: concatenate(some) for number, some in pieces.items()}

    most = kept_most(question) if need is None else MOST_READ
    return priced(question, together, read, most)


def _pieces(connection: Connection, planned: ReadPlan, question: Question) -> Iterator[Columns]:
    """What a plan holds of a question; the extremes of rolled intervals stand for their points."""
    for summary in read_rollups(connection, planned, ("count", "least", "greatest")):
        yield summary.extremes()
    for piece in counted(question, read_points(connection, planned, whole=True), kept_most(question)):
        if (kept := filtered(piece, question)) is not None:
            yield kept


def _append(answer: Answer, label: Label, readings: Readings) -> bool:
    """Add a series as far as there is room; False where the page is full."""
    question = answer.question
    if question.max_points is not None and len(readings) > question.max_points:
        readings = thinned(readings, question.max_points)
    if not len(readings):
        return True
    room = question.limit - answer.count
    whole = len(readings) <= room
    if not whole:
        readings = readings.kept(np.arange(room))
    if len(readings):
        entries = [NO_CONTEXT] * len(readings)
        if readings.contexts is not None:
            entries = [readings.dictionary[at] for at in readings.contexts.tolist()]
        unit = unit_in(entries[-1]) or cached_registry().unit(label[1] or "")
        group = Group(label, unit, readings.times.tolist(), listed(readings), contexts=entries)
        answer.groups.append(group)
    if not whole:
        last = answer.groups[-1]
        answer.next_cursor = question.cursor_after(last.label, last.times[-1])
    return whole
