"""Reading many points for a question: planned and priced first, then streamed bucket by bucket and day by day.

Everything happens in one snapshot, so a merge that runs meanwhile is not seen at all. A piece holds each series
once; two pieces never hold the same series and time, and the days of a series come in order. Blocks that overlap
are rare (late and replayed points, and the youngest seconds), so only the series that they share are put together
anew, and all others are passed on as they were decoded.
"""

from collections.abc import Collection, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns, DamagedPayload, Ints, concatenate, decode
from metrics.storage.format.layout import select_points, select_time_range, split_by_day
from metrics.storage.format.rollup_codec import RollupColumns, decode_rollup, merge_rollups
from metrics.storage.merge import damaged_blocks, rollups
from metrics.storage.merge.rollups import RollupRow
from metrics.storage.read import unmerged
from metrics.storage.read.block_cache import decoded_blocks, read_payloads
from metrics.storage.read.plan import PlannedBlock, ReadPlan
from metrics.storage.shards import BlockId
from metrics.storage.units import SECOND

FETCH_POINTS = 500_000  # points that are fetched together
ROLLUP_FETCH_ROWS = 200  # rows of rollups that are
MAX_CACHED_POINTS = 500_000  # points of a plan up to which its decoded blocks are kept for the next question…
MAX_CACHED_POINTS_MOSTLY_USED = (
    2_000_000  # … and where most of what is in them is asked for: half of what a process remembers
)

_Content = bytes | list[Columns]


def read_rollups(connection: Connection, planned: ReadPlan, wanted: Collection[str]) -> Iterator[RollupColumns]:
    """The rollups of a plan with the statistics that are wanted; the days of a series come in order."""
    told: dict[tuple[int, int], Ints] = {}  # by bucket and day: the series of finer rollups, where there may be both
    for at in range(0, len(planned.rollup_rows), ROLLUP_FETCH_ROWS):
        by_resolution: dict[int, list[RollupColumns]] = {}
        for row, summary in _decode_rollups(
            connection, planned, planned.rollup_rows[at : at + ROLLUP_FETCH_ROWS], wanted
        ):
            if planned.rollup_use is not None and planned.rollup_use.max_points is not None:
                before = told.get((row.bucket, row.day), summary.ids[:0])
                told[row.bucket, row.day] = np.append(before, summary.ids)
                summary = summary.select_series(~np.isin(summary.ids, before)) if len(before) else summary
            by_resolution.setdefault(row.resolution, []).append(summary)
        for some in by_resolution.values():
            summary = merge_rollups(some).select_time_range(planned.rollups_from, planned.end)
            if len(summary):
                yield summary


def _decode_rollups(
    connection: Connection, planned: ReadPlan, rows: list[RollupRow], wanted: Collection[str]
) -> Iterator[tuple[RollupRow, RollupColumns]]:
    """What rows hold of the series of a plan."""
    held = rollups.read_payloads(connection, rows)
    for row in rows:
        try:
            summary = decode_rollup(held[row.shard, row.id], row.resolution * SECOND, wanted, planned.series)
        except DamagedPayload:
            name = f"rollup {row.id}"
            damaged_blocks.log_damage_once(name)
            planned.damaged.append(name)
        else:
            if len(summary):
                yield row, summary


def read_points(connection: Connection, planned: ReadPlan, whole: bool = False) -> Iterator[Columns]:
    """The points of a plan. `whole`: each series of a day in one piece, so that its points come in order of time."""
    waiting = _read_unmerged_by_day(connection, planned)
    planned.caches_blocks = planned.caches_blocks and _is_worth_caching(planned)
    for place, blocks, contents in _read_days(connection, planned):
        for late in [key for key in waiting if key < place]:
            yield from _separate_overlaps(waiting.pop(late), whole)
        parts = (part for block in blocks for part in _select_parts(planned, block, contents))
        if place not in waiting and _are_disjoint([(block.series_from, block.series_to) for block in blocks]):
            yield from parts  # one after the other, so that decoded ones need not wait in memory
        else:
            yield from _separate_overlaps([*parts, *waiting.pop(place, [])], whole)
    for rest in waiting.values():
        yield from _separate_overlaps(rest, whole)


def _is_worth_caching(planned: ReadPlan) -> bool:
    """To be remembered a block is decoded whole, and not only the series that are asked for."""
    if planned.points <= MAX_CACHED_POINTS:
        return True
    return planned.points <= MAX_CACHED_POINTS_MOSTLY_USED and planned.points <= 2 * planned.estimated_points(
        unmerged_fraction=1.0
    )


def _read_unmerged_by_day(connection: Connection, planned: ReadPlan) -> dict[tuple[int, int], list[Columns]]:
    """What is not merged yet, by bucket and day."""
    alone = None if planned.caches_blocks and planned.unmerged_points <= MAX_CACHED_POINTS else planned.series
    parts = [
        kept
        for _, _, some in unmerged.read_unmerged(connection, planned.unmerged, planned.damaged, alone)
        for part in some
        if (kept := _select_planned(part, planned)) is not None
    ]
    places: dict[tuple[int, int], list[Columns]] = {}
    for some in _group_by_encoding(parts):
        for bucket, day, unit in split_by_day(concatenate(some)):
            places.setdefault((bucket, day), []).append(unit)
    return dict(sorted(places.items()))


def _read_days(
    connection: Connection, planned: ReadPlan
) -> Iterator[tuple[tuple[int, int], list[PlannedBlock], dict[BlockId, _Content]]]:
    """The blocks of every bucket and day with their contents, fetched many at once."""
    places: dict[tuple[int, int], list[PlannedBlock]] = {}
    for block in planned.blocks:
        places.setdefault((block.bucket, block.day), []).append(block)
    waiting: list[list[PlannedBlock]] = []
    size = 0
    for number, blocks in enumerate(places.values(), 1):
        waiting.append(blocks)
        size += sum(block.points for block in blocks)
        if size < FETCH_POINTS and number < len(places):
            continue
        contents = _read_contents(connection, [block.number for some in waiting for block in some])
        for some in waiting:
            yield (some[0].bucket, some[0].day), some, contents
        waiting, size = [], 0


def _read_contents(connection: Connection, numbers: list[BlockId]) -> dict[BlockId, _Content]:
    """What is in these blocks, decoded where that is remembered."""
    found: dict[BlockId, _Content] = {
        number: parts for number in numbers if (parts := decoded_blocks.get((1, number))) is not None
    }
    missing = [number for number in numbers if number not in found]
    if missing:
        found.update(read_payloads(connection, 1, missing))
    return found


def _select_parts(planned: ReadPlan, block: PlannedBlock, contents: dict[BlockId, _Content]) -> Iterator[Columns]:
    for part in _decode_block(planned, block.number, contents.pop(block.number)):
        if (kept := _select_planned(part, planned)) is not None:
            yield kept


def _decode_block(planned: ReadPlan, number: BlockId, content: _Content) -> list[Columns]:
    if isinstance(content, list):
        return content
    try:
        parts = decode(content, None if planned.caches_blocks else planned.series)
    except DamagedPayload:
        planned.damaged.append(damaged_blocks.report_damaged_block(1, number))
        return []
    if planned.caches_blocks:
        decoded_blocks.put((1, number), parts)
    return parts


def _select_planned(part: Columns, planned: ReadPlan) -> Columns | None:
    """What a plan asks for of a part; without copying where that is one stretch."""
    if len(part.ids) == 1:
        place = int(planned.series.searchsorted(part.ids[0]))
        if place == len(planned.series) or planned.series[place] != part.ids[0]:
            return None
        if part.times[0] >= planned.start and part.times[-1] < planned.end:
            return part
        low, high = part.times.searchsorted((planned.start, planned.end)).tolist()
        return part.points(low, high) if low < high else None
    at = np.searchsorted(planned.series, part.ids)
    at[at == len(planned.series)] = 0
    here = planned.series[at] == part.ids
    if not here.all():
        places = np.flatnonzero(here)
        if not len(places):
            return None
        first, last = int(places[0]), int(places[-1]) + 1
        part = (
            _copy_if_small(part.slice_series(first, last), len(part))
            if last - first == len(places)
            else select_points(part, np.repeat(here, np.diff(part.offsets)))
        )
    first_times, last_times = part.times[part.offsets[:-1]], part.times[part.offsets[1:] - 1]
    if first_times.min() >= planned.start and last_times.max() < planned.end:
        return part
    part = select_time_range(part, planned.start, planned.end)
    return part if len(part) else None


def _copy_if_small(part: Columns, of: int) -> Columns:
    """A part of a block of `of` points, copied where it is a small one: a view would keep the whole block in memory."""
    if len(part) * 2 > of:
        return part
    contexts = None if part.contexts is None else part.contexts.copy()
    return Columns(part.ids, part.offsets, part.times.copy(), part.values.copy(), contexts, part.dictionary)


def _group_by_encoding(parts: Sequence[Columns]) -> list[list[Columns]]:
    split = ([part for part in parts if part.is_numeric], [part for part in parts if not part.is_numeric])
    return [some for some in split if some]


def _separate_overlaps(parts: list[Columns], whole: bool) -> Iterator[Columns]:
    """The parts of a day, oldest first, so that no two pieces hold the same series and time."""
    for some in _group_by_encoding(parts):
        shared = np.empty(0, np.int64) if _are_disjoint(_series_ranges(some)) else _overlapping_series(some, whole)
        if not len(shared):
            yield from some
            continue
        meeting = []
        for part in some:
            mask = np.isin(part.ids, shared)
            if not mask.any():
                yield part
                continue
            points = np.repeat(mask, np.diff(part.offsets))
            meeting.append(part if mask.all() else select_points(part, points))
            if not mask.all():
                yield select_points(part, ~points)
        yield concatenate(meeting)


def _series_ranges(parts: list[Columns]) -> list[tuple[int, int]]:
    return [(int(part.ids[0]), int(part.ids[-1])) for part in parts]


def _are_disjoint(reach: list[tuple[int, int]]) -> bool:
    """Whether nothing reaches from series to series that another does, as with the rows of a finished day."""
    reach = sorted(reach)
    return all(last < first for (_, last), (first, _) in zip(reach[:-1], reach[1:], strict=True))


def _overlapping_series(parts: list[Columns], whole: bool) -> Ints:
    """Series of which two parts hold points in the same stretch of time; with `whole`, of which two hold any."""
    ids = np.concatenate([part.ids for part in parts])
    first = np.concatenate([part.times[part.offsets[:-1]] for part in parts])
    last = np.concatenate([part.times[part.offsets[1:] - 1] for part in parts])
    order = np.lexsort((first, ids))
    ids, first, last = ids[order], first[order], last[order]
    meet: NDArray[np.bool_] = ids[1:] == ids[:-1]
    if not whole:
        meet &= first[1:] <= last[:-1]
    return np.unique(ids[1:][meet])
