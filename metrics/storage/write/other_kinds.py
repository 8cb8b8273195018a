"""One value per device, metric and time: a value removes those of other kinds.

Each kind of value of a metric is a series of its own. With a value the writer stores a removal in the series of all
other kinds of the same device and metric: a point with the context REMOVED, which readers leave out. Removals are
ordinary points, so in each series the last write wins, across blocks, merges and shards.

Nearly all series have no other kinds. Those that have are read when the writer connects, and again when a commit
finds that a series of another kind was created since (`other_kinds_revision` of the heads).
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np

from metrics.storage.connection import Connection
from metrics.storage.format.codec import NO_CONTEXT, Ints, Kind
from metrics.storage.format.contexts import REMOVED
from metrics.storage.shards import read_reachable
from metrics.storage.write.incoming import IncomingPoints

_REVISION = "SELECT max(other_kinds_revision) FROM metrics_head WHERE shard = ANY(%s)"
_SERIES = """
SELECT device_id, metric_name, id, kind FROM metrics_series WHERE has_other_kinds ORDER BY device_id, metric_name, id
"""
_MARK = """
UPDATE metrics_series s SET has_other_kinds = true
FROM unnest(%s::bigint[], %s::text[]) AS created (device_id, metric_name)
WHERE s.device_id = created.device_id AND s.metric_name = created.metric_name AND NOT s.has_other_kinds
    AND EXISTS (SELECT FROM metrics_series o
        WHERE o.device_id = s.device_id AND o.metric_name = s.metric_name AND o.kind <> s.kind)
"""
_ADVANCE = "UPDATE metrics_head SET other_kinds_revision = other_kinds_revision + 1 WHERE shard = %s"


class SeriesOfOtherKinds:
    """The series whose device and metric have several kinds of value, each with its others, at one revision."""

    def __init__(self, revision: int = 0, rows: Iterable[tuple[int, str, int, int]] = ()) -> None:
        """Take rows of (device, metric, series, kind), those of a device and metric one after the other."""
        self.revision = revision
        others: dict[int, list[tuple[int, bool]]] = {}
        for _, group in groupby(rows, itemgetter(0, 1)):
            members = [(series, Kind(kind).is_number) for _, _, series, kind in group]
            others |= {series: [member for member in members if member[0] != series] for series, _ in members}
        self._ids = np.array(sorted(others), np.int64)
        ordered = [others[series] for series in sorted(others)]
        self._starts = np.append(0, np.cumsum([len(members) for members in ordered])).astype(np.int64)
        self._others = np.array([series for members in ordered for series, _ in members], np.int64)
        self._are_numbers = np.array([is_number for members in ordered for _, is_number in members], bool)

    def remove_replaced(self, arrivals: Sequence[IncomingPoints]) -> Sequence[IncomingPoints]:
        """Add the removals to points in order of arrival."""
        if not len(self._ids):
            return arrivals
        return [points for incoming in arrivals for points in self._add_removals(incoming)]

    def _add_removals(self, incoming: IncomingPoints) -> list[IncomingPoints]:
        series = np.asarray(incoming.series, np.int64)
        rows = self._ids.searchsorted(series)
        rows[rows == len(self._ids)] = 0
        positions = np.flatnonzero(self._ids[rows] == series)
        if not len(positions):
            return [incoming]
        rows = rows[positions]
        counts = self._starts[rows + 1] - self._starts[rows]
        firsts = np.repeat(self._starts[rows] - np.append(0, np.cumsum(counts)[:-1]), counts)
        members = firsts + np.arange(len(firsts))
        at, others = np.repeat(positions, counts), self._others[members]
        times, values = np.asarray(incoming.times, np.int64), np.asarray(incoming.values)
        points = IncomingPoints(series, times, values, incoming.contexts, incoming.dictionary)
        has_same_encoding = self._are_numbers[members] == (values.dtype != object)
        result = [_insert_removals(points, at[has_same_encoding], others[has_same_encoding])]
        is_other = ~has_same_encoding
        if is_other.any():
            result.append(_removals(others[is_other], times[at[is_other]], values.dtype == object))
        return result


def _removals(series: Ints, times: Ints, are_numbers: bool) -> IncomingPoints:
    values: Any = np.zeros(len(series)) if are_numbers else np.full(len(series), b"", object)
    return IncomingPoints(series, times, values, np.zeros(len(series), np.int32), (REMOVED,))


def _insert_removals(points: IncomingPoints, at: Ints, series: Ints) -> IncomingPoints:
    """Insert a removal of each of `series` before the point at the same place of `at`."""
    if not len(at):
        return points
    values: Any = points.values
    removals = _removals(series, np.asarray(points.times)[at], values.dtype != object)
    order = np.argsort(np.concatenate((2 * at, 2 * np.arange(len(points.times)) + 1)), kind="stable")
    contexts, dictionary = points.contexts, list(points.dictionary)
    if contexts is None:
        contexts, dictionary = np.zeros(len(points.times), np.int32), [NO_CONTEXT]
    removed = np.full(len(at), len(dictionary), np.int32)
    return IncomingPoints(
        np.concatenate((removals.series, points.series))[order],
        np.concatenate((removals.times, points.times))[order],
        np.concatenate((removals.values, values))[order],
        np.concatenate((removed, contexts))[order],
        [*dictionary, REMOVED],
    )


def read_series_of_other_kinds(connection: Connection) -> SeriesOfOtherKinds:
    """Read the series of devices and metrics with several kinds of value."""
    # First: a series created in between is read again.
    row = read_reachable(connection, lambda those: connection.execute(_REVISION, (those,)).fetchone())
    assert row is not None  # every shard has a head
    return SeriesOfOtherKinds(row[0], connection.execute(_SERIES).fetchall())


def record_new_kinds(connection: Any, devices: list[int], metrics: list[str], shards: Iterable[int]) -> None:
    """Record which of these created series have other kinds; later commits of all writers then know them.

    Runs in the transaction that creates them; the shards are in ascending order, as writers lock them.
    """
    if connection.execute(_MARK, (devices, metrics)).rowcount:
        for shard in shards:
            connection.execute(_ADVANCE, (shard,))
