"""How the series of a question are to be read: from points, from rollups, or from both.

Series whose points are kept equally long are read together, for what is gone begins at the same day for all of them.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from metrics.query.accumulators import Fold
from metrics.query.latest import moment
from metrics.query.query import Question
from metrics.query.result import Asked
from metrics.storage.connection import read_connection
from metrics.storage.format.codec import Ints
from metrics.storage.merge import rollups
from metrics.storage.merge.rollups import RollupUse
from metrics.storage.series_registry import DEFAULT_DEFINITION, current_registry
from metrics.storage.units import DAY, SECOND


@dataclass(frozen=True, slots=True)
class Share:
    """Series (ascending ids) that are read alike."""

    ids: Ints
    rolling: RollupUse | None


def shares(found: Iterable[Asked], resolution: int | None, instead: bool, thinned: int | None = None) -> list[Share]:
    """The series of a question by how they are read, where rollups of a resolution (seconds; None: none) can help;
    each `thinned` to so many points.
    """
    definitions = current_registry().definitions
    kept: dict[int | None, list[int]] = {}
    for one in found:
        days = definitions.get(one.metric_name, DEFAULT_DEFINITION).retention // DAY
        kept.setdefault(days if resolution is not None and one.kind.is_number else None, []).append(one.id)
    return [_share(ids, days, resolution, instead, thinned) for days, ids in kept.items()]


def _share(ids: list[int], days: int | None, resolution: int | None, instead: bool, thinned: int | None) -> Share:
    series = np.unique(np.array(ids, np.int64))
    if days is None or resolution is None:
        return Share(series, None)
    return Share(
        series, RollupUse(resolution, _gone(days), instead, None if thinned is None else thinned * len(series))
    )


def left_out(question: Question, found: Iterable[Asked], resolution: int | None) -> list[str]:
    """What is not in an answer since points are gone, and rollups of a resolution (seconds; None: none) do not do."""
    if resolution == rollups.ONE_HOUR:
        return []
    told = []
    for share in shares(found, rollups.ONE_HOUR, instead=False):
        if share.rolling is None or question.low >= (gone := share.rolling.gone):
            continue
        when = question.low, min(question.high, gone)
        with read_connection() as connection:
            if resolution is not None and rollups.has_rollups(connection, share.ids, resolution, *when):
                continue
            if not rollups.has_rollups(connection, share.ids, rollups.ONE_HOUR, *when):
                continue
        kept = "avg, min, max, sum, count, first and last" if resolution is None else "values of whole hours"
        told.append(f"of before {moment(gone).date()} no points are kept, only {kept}")
    return list(dict.fromkeys(told))


def for_fold(question: Question, edges: Ints, fold: Fold) -> tuple[int | None, bool]:
    """(the resolution of rollups that can answer, whether they may stand in for points)."""
    if not (fold.stat or fold.from_ends) or not _plain(question) or question.tag is not None:
        return None, False
    return rollups.coarsest_resolution(edges), fold.stat is not None


def for_chart(question: Question) -> tuple[int | None, bool]:
    """The same for the line through points, thinned to so many."""
    if question.max_points is None or not _plain(question):
        return None, False
    stretch = 2 * (question.high - question.low) // question.max_points
    fitting = [one for one in rollups.RESOLUTIONS if one * SECOND <= stretch]
    return (fitting[-1], True) if fitting else (rollups.FIVE_MINUTES, False)


def _plain(question: Question) -> bool:
    """Whether every point counts, whatever its value and tags."""
    return not question.tags and question.min_value is None and question.max_value is None


def _gone(days: int) -> int:
    """Points of before this time (µs) are gone, when they are kept so many days."""
    return (time.time_ns() // 1000 - days * DAY) // DAY * DAY
