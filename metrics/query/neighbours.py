"""The nearest points before or after a range: differences and filled gaps at its edges continue from them.

They are searched up to LOOKBACK from the range, in windows that grow, since most series have a point in the nearest
hour. In the wider windows hourly rollups of whole days replace the points; the hour that is found is then read itself.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metrics.query.accumulators import Floats, Ints
from metrics.query.plan import MAX_READ_POINTS, PointFilter, split_by_tag
from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns
from metrics.storage.format.layout import select_points
from metrics.storage.format.rollup_codec import RollupColumns
from metrics.storage.merge.rollups import ONE_HOUR
from metrics.storage.read.latest import read_newest_merged
from metrics.storage.read.plan import plan_read
from metrics.storage.read.rollups import NO_ROLLUPS, RollupChoice, StoredSeries, split_by_retention
from metrics.storage.read.scan import read_points, read_rollups
from metrics.storage.series_registry import current_registry
from metrics.storage.units import DAY, SECOND

LOOKBACK_DAYS = 35  # more than a month, so that monthly readings add up
LOOKBACK = LOOKBACK_DAYS * DAY
HOUR = ONE_HOUR * SECOND
_WINDOWS = ((0, HOUR), (HOUR, 3 * DAY), (3 * DAY, LOOKBACK))  # distances from the range
_TAG_WINDOWS = ((0, DAY), (DAY, LOOKBACK))


@dataclass(slots=True)
class NearestPoints:
    """The nearest point of each series; `found` is false where there is none.

    values  0 if they are not numbers
    """

    found: NDArray[np.bool_]
    times: Ints
    values: Floats


class NeighbourSearch:
    """Searches the nearest points of series (ascending ids) before, or after, the time `edge` (µs).

    by_tag   points by value of the tag to group by, or under None
    damaged  names of blocks that cannot be read
    skipped  whether a window was too large to be searched: possible with filters, for which rollups are of no use
    """

    def __init__(
        self,
        connection: Connection,
        series: Sequence[StoredSeries],
        edge: int,
        forward: bool = False,
        filters: PointFilter | None = None,
        tag: str | None = None,
    ) -> None:
        self.connection, self.series, self.edge, self.forward = connection, series, edge, forward
        self.filters, self.tag = filters, tag
        self.ids = np.array([row.id for row in series], np.int64)
        self.missing = np.ones(len(series), bool)
        self.by_tag: dict[str | None, NearestPoints] = {}
        self.damaged: list[str] = []
        self.skipped = False

    def run(self) -> "NeighbourSearch":
        reads_all_points = self.filters is not None or self.tag is not None
        for number, window in enumerate(_WINDOWS if self.tag is None else _TAG_WINDOWS):
            if number == 1 and not reads_all_points:
                self._settle_by_newest_points()
            if not self.missing.any():
                break
            self._search(*self._limits(*window), RollupChoice(ONE_HOUR, number > 0 and not reads_all_points))
        return self

    def _limits(self, nearest: int, furthest: int) -> tuple[int, int]:
        if self.forward:
            return self.edge + nearest, self.edge + furthest
        return max(self.edge - furthest, 0), max(self.edge - nearest, 0)

    def _settle_by_newest_points(self) -> None:
        """End the search of the series that have sent nothing since: their newest point is the nearest one, or there
        is none after the range. Only commits that are not merged may have more."""
        low, high = self._limits(0, LOOKBACK)
        settled = np.zeros(len(self.ids), bool)
        for part in read_newest_merged(self.connection, self.ids[self.missing]):
            ended = part.times < self.edge
            settled[self.ids.searchsorted(part.ids[ended])] = True
            within = ended & (part.times >= low)
            if within.any() and not self.forward:
                self._add(select_points(part, within))
        settled &= self.missing
        if settled.any() and low < high:
            unmerged = plan_read(self.connection, self.ids[settled], low, high)
            unmerged.blocks = []
            for piece in read_points(self.connection, unmerged):
                self._add(piece)
        self.missing &= ~settled

    def _search(self, low: int, high: int, choice: RollupChoice) -> None:
        """Search one window for the missing series."""
        remaining = [row for row, is_missing in zip(self.series, self.missing, strict=True) if is_missing]
        hours: dict[int, int] = {}  # start of the hour whose rollup is the nearest one, by series
        for piece in self._read(remaining, low, high, choice):
            if isinstance(piece, RollupColumns):
                hours.update(self._nearest_hours(piece, hours))
            else:
                self._add(piece)
        for hour in set(hours.values()):
            of_hour = [row for row in remaining if hours.get(row.id) == hour]
            begin, end = max(hour, low), min(hour + HOUR, high)
            for piece in self._read(of_hour, begin, end, RollupChoice(ONE_HOUR, False)):
                self._add(piece.first_last_points()[0] if isinstance(piece, RollupColumns) else piece)
        for points in self.by_tag.values():
            self.missing &= ~points.found

    def _read(
        self, series: Iterable[StoredSeries], low: int, high: int, choice: RollupChoice
    ) -> Iterator[Columns | RollupColumns]:
        """Yield rollups and points."""
        if low >= high:
            return
        has_rollups = self.filters is None and self.tag is None
        for piece in split_by_retention(series, choice if has_rollups else NO_ROLLUPS, registry=current_registry()):
            plan = plan_read(self.connection, piece.ids, low, high, piece.rollup_use)
            if plan.points > MAX_READ_POINTS:
                self.skipped = True
                continue
            yield from read_rollups(self.connection, plan, {"count", "first", "last"})
            yield from read_points(self.connection, plan)
            self.damaged += plan.damaged

    def _nearest_hours(self, rollup: RollupColumns, hours: dict[int, int]) -> Iterator[tuple[int, int]]:
        """Yield (series, its nearest hour) of the rollups that are nearer than the hours known so far."""
        positions = rollup.offsets[:-1] if self.forward else rollup.offsets[1:] - 1
        for number, hour in zip(rollup.ids.tolist(), rollup.times[positions].tolist(), strict=True):
            known = hours.get(number)
            if known is None or (hour < known if self.forward else hour > known):
                yield number, hour

    def _add(self, piece: Columns) -> None:
        """Keep the points of a piece that are nearer than those found so far."""
        matching = piece if self.filters is None else self.filters.select(piece)
        if matching is None or not len(matching):
            return
        for value, part in split_by_tag(self.tag, matching):
            if value not in self.by_tag:
                count = len(self.ids)
                self.by_tag[value] = NearestPoints(np.zeros(count, bool), np.zeros(count, np.int64), np.zeros(count))
            points, positions = self.by_tag[value], self.ids.searchsorted(part.ids)
            ends = part.offsets[:-1] if self.forward else part.offsets[1:] - 1
            times = part.times[ends]
            nearer = times <= points.times[positions] if self.forward else times >= points.times[positions]
            nearer |= ~points.found[positions]
            at, ends = positions[nearer], ends[nearer]
            points.found[at], points.times[at] = True, times[nearer]
            if part.is_numeric:
                points.values[at] = part.values[ends]
