"""The series that a query resolves to, and its result."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from metrics.query.query import PagePosition, Query, SeriesLabel
from metrics.storage.format.codec import Kind
from rest.errors import InvalidField


@dataclass(frozen=True, slots=True)
class ResolvedSeries:
    """A series of a query.

    group  the device group that it is read for: a query by groups reads a series once per group of its device
    """

    id: int
    kind: Kind
    device_id: str
    metric_name: str
    group: str | None = None

    @property
    def label(self) -> SeriesLabel:
        return self.device_id, self.metric_name, None


@dataclass(slots=True)
class ResultSeries:
    """One series of a result, or one group of aggregated series.

    times     µs since 1970, UTC; of aggregated series where their time buckets begin
    counts    aggregated: points of each time bucket
    contexts  raw: encoded unit, tags and metadata of each point
    """

    label: SeriesLabel
    unit: str | None
    times: list[int]
    values: list[Any]
    counts: list[int] | None = None
    contexts: list[bytes] | None = None

    def between(self, low: int, high: int) -> "ResultSeries":
        """Return the aggregated values at the positions from `low` to before `high`."""
        counts = None if self.counts is None else self.counts[low:high]
        return ResultSeries(self.label, self.unit, self.times[low:high], self.values[low:high], counts)


class Page(NamedTuple):
    """The series of a page; `last` is its last point if there are more after it."""

    series: list[ResultSeries]
    last: PagePosition | None = None


@dataclass(slots=True)
class QueryResult:
    """Result of a query.

    interval    seconds of a time bucket; None: the whole range, or raw points
    incomplete  messages about missing points
    read        counts of blocks, points and rollups, for `explain`
    """

    query: Query
    series: list[ResultSeries] = field(default_factory=list)
    interval: int | None = None
    next_cursor: str | None = None
    incomplete: list[str] = field(default_factory=list)
    read: dict[str, Any] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return sum(len(series.times) for series in self.series)


def skip_previous_pages(labels: list[SeriesLabel], after: PagePosition | None) -> list[SeriesLabel]:
    """Return the labels from the one on in which the previous page ended. Raises InvalidField if that is gone."""
    if after is None:
        return labels
    if after.label not in labels:
        raise InvalidField("cursor", "the last series of the previous page no longer exists; query again without it")
    return labels[labels.index(after.label) :]
