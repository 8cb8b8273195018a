"""Reading of a plan: points bucket by bucket and day by day, and rollups.

All reads are within one snapshot, so a concurrent merge is not visible. A piece has each series once; no two pieces
have the same series and time, and the days of a series are in order. Blocks rarely overlap (late and repeated
points, and the most recent seconds), so only the series in several blocks are merged; all others are passed on as
they were decoded.
"""

from collections.abc import Collection, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from metrics.storage.connection import Connection
from metrics.storage.format.codec import Columns, DamagedPayload, Ints, concatenate, decode
from metrics.storage.format.layout import MERGED, drop_removed, select_points, select_time_range, split_by_day
from metrics.storage.format.rollup_codec import RollupColumns, decode_rollup, merge_rollups
from metrics.storage.merge import damaged_blocks
from metrics.storage.read import rollups, unmerged
from metrics.storage.read.block_cache import decoded_blocks, read_payloads
from metrics.storage.read.plan import PlannedBlock, ReadPlan
from metrics.storage.read.rollups import RollupRow
from metrics.storage.shards import BlockId
from metrics.storage.units import SECOND

FETCH_POINTS = 500_000  # blocks are read together up to this many points
ROLLUP_FETCH_ROWS = 200  # rollup rows read together
# The decoded blocks of a plan are cached up to MAX_CACHED_POINTS; or, if at least about half of their points are used,
# up to MAX_CACHED_POINTS_MOSTLY_USED, which is half of the cache.
MAX_CACHED_POINTS = 500_000
MAX_CACHED_POINTS_MOSTLY_USED = 2_000_000

_Content = bytes | list[Columns]


def read_rollups(connection: Connection, planned: ReadPlan, stat_names: Collection[str]) -> Iterator[RollupColumns]:
    """Yield the rollups of a plan with these statistics; the days of a series are in order."""
    finer_series: dict[tuple[int, int], Ints] = {}  # by bucket and day, if a day may have two resolutions
    for offset in range(0, len(planned.rollup_rows), ROLLUP_FETCH_ROWS):
        by_resolution: dict[int, list[RollupColumns]] = {}
        for row, rollup in _decode_rollups(
            connection, planned, planned.rollup_rows[offset : offset + ROLLUP_FETCH_ROWS], stat_names
        ):
            if planned.rollup_use is not None and planned.rollup_use.max_points is not None:
                known_series = finer_series.get((row.bucket, row.day), rollup.ids[:0])
                finer_series[row.bucket, row.day] = np.append(known_series, rollup.ids)
                rollup = rollup.select_series(~np.isin(rollup.ids, known_series)) if len(known_series) else rollup
            by_resolution.setdefault(row.resolution, []).append(rollup)
        for group in by_resolution.values():
            rollup = merge_rollups(group).select_time_range(planned.rollups_from, planned.end)
            if len(rollup):
                yield rollup


def _decode_rollups(
    connection: Connection, planned: ReadPlan, rows: list[RollupRow], stat_names: Collection[str]
) -> Iterator[tuple[RollupRow, RollupColumns]]:
    """Decode rollup rows of the series of a plan."""
    payloads = rollups.read_payloads(connection, rows)
    for row in rows:
        try:
            rollup = decode_rollup(payloads[row.shard, row.id], row.resolution * SECOND, stat_names, planned.series)
        except DamagedPayload:
            name = f"rollup {row.id}"
            damaged_blocks.log_damage_once(name)
            planned.damaged.append(name)
        else:
            if len(rollup):
                yield row, rollup


def read_points(connection: Connection, planned: ReadPlan, whole: bool = False) -> Iterator[Columns]:
    """Yield the points of a plan.

    With `whole` each series of a day is one piece, so that its points are in order of time.
    """
    for piece in _read_pieces(connection, planned, whole):
        points = drop_removed(piece)
        if len(points):
            yield points


def _read_pieces(connection: Connection, planned: ReadPlan, whole: bool) -> Iterator[Columns]:
    """Yield the points of a plan and removals."""
    unmerged_parts = _read_unmerged_by_day(connection, planned)
    planned.caches_blocks = planned.caches_blocks and _is_worth_caching(planned)
    for bucket_day, blocks, contents in _read_days(connection, planned):
        for earlier in [key for key in unmerged_parts if key < bucket_day]:
            yield from _separate_overlaps(unmerged_parts.pop(earlier), whole)
        parts = (part for block in blocks for part in _select_parts(planned, block, contents))
        if bucket_day not in unmerged_parts and _are_disjoint(
            [(block.series_from, block.series_to) for block in blocks]
        ):
            yield from parts  # one by one, so that decoded parts are not kept in memory
        else:
            yield from _separate_overlaps([*parts, *unmerged_parts.pop(bucket_day, [])], whole)
    for day_parts in unmerged_parts.values():
        yield from _separate_overlaps(day_parts, whole)


def _is_worth_caching(planned: ReadPlan) -> bool:
    """Return whether to decode blocks as a whole, which caching requires, and not only the series of the plan."""
    if planned.points <= MAX_CACHED_POINTS:
        return True
    return planned.points <= MAX_CACHED_POINTS_MOSTLY_USED and planned.points <= 2 * planned.estimated_points(
        unmerged_fraction=1.0
    )


def _read_unmerged_by_day(connection: Connection, planned: ReadPlan) -> dict[tuple[int, int], list[Columns]]:
    """Return the unmerged parts of a plan by bucket and day."""
    only_series = None if planned.caches_blocks and planned.unmerged_points <= MAX_CACHED_POINTS else planned.series
    parts = [
        kept
        for _, _, group in unmerged.read_unmerged(connection, planned.unmerged, planned.damaged, only_series)
        for part in group
        if (kept := _select_planned(part, planned)) is not None
    ]
    by_day: dict[tuple[int, int], list[Columns]] = {}
    for group in _group_by_encoding(parts):
        for bucket, day, day_part in split_by_day(concatenate(group)):
            by_day.setdefault((bucket, day), []).append(day_part)
    return dict(sorted(by_day.items()))


def _read_days(
    connection: Connection, planned: ReadPlan
) -> Iterator[tuple[tuple[int, int], list[PlannedBlock], dict[BlockId, _Content]]]:
    """Yield the blocks of every bucket and day with their contents, read in batches."""
    by_day: dict[tuple[int, int], list[PlannedBlock]] = {}
    for block in planned.blocks:
        by_day.setdefault((block.bucket, block.day), []).append(block)
    batch: list[list[PlannedBlock]] = []
    size = 0
    for number, blocks in enumerate(by_day.values(), 1):
        batch.append(blocks)
        size += sum(block.points for block in blocks)
        if size < FETCH_POINTS and number < len(by_day):
            continue
        contents = _read_contents(connection, [block.number for day_blocks in batch for block in day_blocks])
        for day_blocks in batch:
            yield (day_blocks[0].bucket, day_blocks[0].day), day_blocks, contents
        batch, size = [], 0


def _read_contents(connection: Connection, numbers: list[BlockId]) -> dict[BlockId, _Content]:
    """Return the contents of these blocks: decoded if cached, else the payload."""
    contents: dict[BlockId, _Content] = {
        number: parts for number in numbers if (parts := decoded_blocks.get((MERGED, number))) is not None
    }
    missing = [number for number in numbers if number not in contents]
    if missing:
        contents.update(read_payloads(connection, MERGED, missing))
    return contents


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
        planned.damaged.append(damaged_blocks.report_damaged_block(MERGED, number))
        return []
    if planned.caches_blocks:
        decoded_blocks.put((MERGED, number), parts)
    return parts


def _select_planned(part: Columns, planned: ReadPlan) -> Columns | None:
    """Return what a plan needs of a part, without a copy if that is contiguous; None if nothing."""
    if len(part.ids) == 1:
        position = int(planned.series.searchsorted(part.ids[0]))
        if position == len(planned.series) or planned.series[position] != part.ids[0]:
            return None
        if part.times[0] >= planned.start and part.times[-1] < planned.end:
            return part
        low, high = part.times.searchsorted((planned.start, planned.end)).tolist()
        return part.points(low, high) if low < high else None
    positions = np.searchsorted(planned.series, part.ids)
    positions[positions == len(planned.series)] = 0
    mask = planned.series[positions] == part.ids
    if not mask.all():
        indices = np.flatnonzero(mask)
        if not len(indices):
            return None
        first, last = int(indices[0]), int(indices[-1]) + 1
        part = (
            _copy_if_small(part.slice_series(first, last), len(part))
            if last - first == len(indices)
            else select_points(part, np.repeat(mask, np.diff(part.offsets)))
        )
    first_times, last_times = part.times[part.offsets[:-1]], part.times[part.offsets[1:] - 1]
    if first_times.min() >= planned.start and last_times.max() < planned.end:
        return part
    part = select_time_range(part, planned.start, planned.end)
    return part if len(part) else None


def _copy_if_small(part: Columns, size: int) -> Columns:
    """Copy a small part of a block of `size` points: a view would keep the whole block in memory."""
    if len(part) * 2 > size:
        return part
    contexts = None if part.contexts is None else part.contexts.copy()
    return Columns(part.ids, part.offsets, part.times.copy(), part.values.copy(), contexts, part.dictionary)


def _group_by_encoding(parts: Sequence[Columns]) -> list[list[Columns]]:
    groups = ([part for part in parts if part.is_numeric], [part for part in parts if not part.is_numeric])
    return [group for group in groups if group]


def _separate_overlaps(parts: list[Columns], whole: bool) -> Iterator[Columns]:
    """Yield the parts of a day, oldest first, so that no two pieces have the same series and time."""
    for group in _group_by_encoding(parts):
        overlapping = (
            np.empty(0, np.int64) if _are_disjoint(_series_ranges(group)) else _overlapping_series(group, whole)
        )
        if not len(overlapping):
            yield from group
            continue
        to_merge = []
        for part in group:
            mask = np.isin(part.ids, overlapping)
            if not mask.any():
                yield part
                continue
            points = np.repeat(mask, np.diff(part.offsets))
            to_merge.append(part if mask.all() else select_points(part, points))
            if not mask.all():
                yield select_points(part, ~points)
        yield concatenate(to_merge)


def _series_ranges(parts: list[Columns]) -> list[tuple[int, int]]:
    return [(int(part.ids[0]), int(part.ids[-1])) for part in parts]


def _are_disjoint(ranges: list[tuple[int, int]]) -> bool:
    """Return whether no two series ranges overlap, as in the rows of a finished day."""
    ranges = sorted(ranges)
    return all(last < first for (_, last), (first, _) in zip(ranges[:-1], ranges[1:], strict=True))


def _overlapping_series(parts: list[Columns], whole: bool) -> Ints:
    """Return the series whose time ranges overlap in two parts; with `whole`, the series in two parts."""
    ids = np.concatenate([part.ids for part in parts])
    first = np.concatenate([part.times[part.offsets[:-1]] for part in parts])
    last = np.concatenate([part.times[part.offsets[1:] - 1] for part in parts])
    order = np.lexsort((first, ids))
    ids, first, last = ids[order], first[order], last[order]
    overlaps: NDArray[np.bool_] = ids[1:] == ids[:-1]
    if not whole:
        overlaps &= first[1:] <= last[:-1]
    return np.unique(ids[1:][overlaps])
