"""What questions are answered with, and what of a piece of points they are about."""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from metrics.query.query import Label, Question
from metrics.storage.format.codec import Columns, Kind
from metrics.storage.format.contexts import read_context
from metrics.storage.format.layout import select_points
from metrics.storage.read.plan import ReadPlan
from rest.errors import InvalidField


@dataclass(frozen=True, slots=True)
class Asked:
    """A series that a question asks for."""

    id: int
    kind: Kind
    device_id: str
    metric_name: str
    group: str | None = None  # for which group of its device; a question by groups asks for it once for each

    @property
    def label(self) -> Label:
        return self.device_id, self.metric_name, None


@dataclass(slots=True)
class Group:
    """One line of an answer: a series, or what was pooled."""

    label: Label
    unit: str | None
    times: list[int]
    values: list[Any]
    counts: list[int] | None = None  # aggregated: points of each interval
    contexts: list[bytes] | None = None  # raw: unit, tags, metadata of each point


@dataclass(slots=True)
class Answer:
    question: Question
    groups: list[Group] = field(default_factory=list)
    interval: int | None = None  # seconds
    next_cursor: str | None = None
    missing: list[str] = field(default_factory=list)  # what is not in it, and why
    read: dict[str, Any] = field(default_factory=dict)  # for ?explain=true

    @property
    def count(self) -> int:
        return sum(len(group.times) for group in self.groups)

    def note(self, planned: ReadPlan) -> None:
        """Remember what was read."""
        self.missing += [f"{name} is damaged and was left out" for name in planned.damaged]
        known = self.read
        for name in ("series", "young_blocks", "points_in_blocks", "intervals_in_rollups"):
            known.setdefault(name, 0)
        for name in ("blocks_by_level", "rollups_by_seconds"):
            known.setdefault(name, {})
        known["series"] += len(planned.series)
        known["young_blocks"] += planned.young_commits
        known["points_in_blocks"] += planned.points - planned.rolled_intervals
        known["intervals_in_rollups"] += planned.rolled_intervals
        if planned.rolling is not None:
            rows = known["rollups_by_seconds"]
            rows.setdefault(str(planned.rolling.resolution), 0)
            for row in planned.rolled:
                rows[str(row.resolution)] = rows.get(str(row.resolution), 0) + 1
        for level, blocks in planned.levels().items():
            known["blocks_by_level"][level] = known["blocks_by_level"].get(level, 0) + blocks
        self.read = known


def filtered(piece: Columns, question: Question) -> Columns | None:
    """What of a piece the filters let through."""
    mask = np.ones(len(piece), bool)
    if question.min_value is not None:
        mask &= piece.values >= question.min_value
    if question.max_value is not None:
        mask &= piece.values <= question.max_value
    if question.tags:
        if piece.contexts is None:
            return None
        fits = [question.tags.items() <= tags_in(entry).items() for entry in piece.dictionary]
        mask &= np.array(fits, bool)[piece.contexts]
    if mask.all():
        return piece
    return select_points(piece, mask) if mask.any() else None


@lru_cache(10_000)
def unit_in(entry: bytes) -> str | None:
    return read_context(entry)[0]


@lru_cache(10_000)
def tags_in(entry: bytes) -> dict[str, Any]:
    return read_context(entry)[1]


def from_cursor(labels: list[Label], after: tuple[Label, int] | None) -> list[Label]:
    """The labels from the one on that the page before ended in."""
    if after is None:
        return labels
    if after[0] not in labels:
        raise InvalidField("cursor", "what the page before ended with is there no more; begin again")
    return labels[labels.index(after[0]) :]
