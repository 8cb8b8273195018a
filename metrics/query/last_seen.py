"""Cached last-seen time of every device, as columns, for any number of devices.

The newest merged time of every series is stored beside the points; newer points are in unmerged blocks. Reading both
takes seconds for a hundred thousand devices with a million series. So only the first caller waits: the others get the
cached times while a thread refreshes them.
"""

import logging
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from metrics.models import Device
from metrics.storage.connection import Connection, dedicated_connection
from metrics.storage.errors import StorageError
from metrics.storage.format.codec import Columns, DamagedPayload, Ints, decode
from metrics.storage.read import block_cache
from rest.caller import Caller

log = logging.getLogger(__name__)

MIN_REFRESH_PERIOD = 5.0  # seconds
REFRESH_COST_FACTOR = 10  # the period is at least this many times as long as a refresh takes
MAX_UNMERGED_COMMITS = 10_000  # per shard; points of later ones are seen after the next merge


@dataclass(frozen=True, slots=True)
class LastSeenColumns:
    """Devices by ascending primary key.

    devices    int64[n]: primary keys
    times      int64[n]: µs since 1970, UTC; 0 for a device without points
    intervals  int64[n]: expected seconds between points; 0 if not set
    read_at    when the times were read: ages are measured from here, else cached times would look late
    """

    devices: Ints
    times: Ints
    intervals: Ints
    read_at: datetime

    def visible_to(self, caller: Caller) -> "LastSeenColumns":
        """Return only the devices that are visible to a caller."""
        if caller.sees_all:
            return self
        visible = np.array(sorted(Device.objects.visible_to(caller).values_list("pk", flat=True)), np.int64)
        mask = np.isin(self.devices, visible)
        return LastSeenColumns(self.devices[mask], self.times[mask], self.intervals[mask], self.read_at)


class _Cache(NamedTuple):
    """The cached times, when their read began and how many seconds it took (monotonic clock)."""

    columns: LastSeenColumns
    began: float
    took: float

    @property
    def refresh_at(self) -> float:
        return self.began + self.took + max(MIN_REFRESH_PERIOD, REFRESH_COST_FACTOR * self.took)


_cache: _Cache | None = None
_refreshing = threading.Lock()


def cached_last_seen() -> LastSeenColumns:
    """Return the last-seen times of all devices, some seconds old. Raises StorageUnavailable if nothing is cached."""
    cache = _cache
    if cache is None:
        with _refreshing:
            return _cache.columns if _cache is not None else _refresh()
    if time.monotonic() >= cache.refresh_at and _refreshing.acquire(blocking=False):
        threading.Thread(target=_refresh_in_background, name="last-seen", daemon=True).start()
    return cache.columns


def last_seen_since(moment: float) -> LastSeenColumns:
    """Return the last-seen times, read after a moment of the monotonic clock: for a thread that may wait for the read.

    Older times are returned while another read would cost more than a share of 1 to REFRESH_COST_FACTOR of the time.
    Raises StorageUnavailable.
    """
    with _refreshing:
        cache = _cache
        if cache is None:
            return _refresh()
        is_affordable = time.monotonic() >= cache.began + (1 + REFRESH_COST_FACTOR) * cache.took
        return _refresh() if cache.began < moment and is_affordable else cache.columns


def _refresh_in_background() -> None:
    try:
        _refresh()
    except StorageError as error:
        log.warning("last-seen times cannot be refreshed: %s", str(error).split("\n")[0])
    except Exception:
        log.exception("last-seen times cannot be refreshed")
    finally:
        _refreshing.release()


def _refresh() -> LastSeenColumns:
    global _cache
    started = time.monotonic()
    with dedicated_connection() as connection:
        columns = read_last_seen(connection)
    _cache = _Cache(columns, started, time.monotonic() - started)
    return columns


def clear_cache() -> None:
    """Make the next call read the times again."""
    global _cache
    _cache = None


def read_last_seen(connection: Connection) -> LastSeenColumns:
    """Read the last-seen times of all devices, which takes seconds for a million series."""
    read_at = datetime.now(UTC)
    devices = _copy_pairs(connection, "SELECT id, coalesce(expected_interval, 0)::int8 FROM metrics_device ORDER BY id")
    series = _copy_pairs(connection, "SELECT id, device_id FROM metrics_series ORDER BY id")
    newest = _newest_times_of(connection, series[:, 0])
    times = np.zeros(len(devices), np.int64)
    positions = np.searchsorted(devices[:, 0], series[:, 1])
    matches = positions < len(devices)
    matches[matches] = devices[positions[matches], 0] == series[matches, 1]
    np.maximum.at(times, positions[matches], newest[matches])
    return LastSeenColumns(devices[:, 0], times, devices[:, 1], read_at)


def read_newest_times(connection: Connection) -> tuple[Ints, Ints]:
    """Return the ids of all series, ascending, and the time of each one's newest point (µs; 0: none)."""
    series = _copy_pairs(connection, "SELECT id, device_id FROM metrics_series ORDER BY id")[:, 0]
    return series, _newest_times_of(connection, series)


def _newest_times_of(connection: Connection, series: Ints) -> Ints:
    newest = np.zeros(len(series), np.int64)
    # Unmerged blocks first: a block that is merged between the two reads is in both.
    merged: block_cache.CommitCursor = dict(connection.execute("SELECT shard, seq FROM metrics_merged").fetchall())
    commits = block_cache.read_commits_after(connection, merged, MAX_UNMERGED_COMMITS)
    unmerged = [part for _, parts in commits for part in parts]
    with connection.transaction(), connection.cursor("latest", binary=True) as cursor:
        for part in unmerged:
            _keep_newest(newest, series, part)
        cursor.execute("SELECT payload FROM metrics_latest")
        for (payload,) in cursor:
            try:
                for part in decode(payload):
                    _keep_newest(newest, series, part)
            except DamagedPayload:
                continue  # reads of its points report it
    return newest


def _keep_newest(newest: Ints, series: Ints, part: Columns) -> None:
    """Raise each series' time to its last one in a part. A series that was created after `series` is skipped."""
    positions = np.searchsorted(series, part.ids)
    last = part.times[part.offsets[1:] - 1]
    matches = positions < len(series)
    matches[matches] = series[positions[matches]] == part.ids[matches]
    np.maximum.at(newest, positions[matches], last[matches])


_COPY_ROW = np.dtype([("columns", ">i2"), ("l1", ">i4"), ("first", ">i8"), ("l2", ">i4"), ("second", ">i8")])
_COPY_HEADER, _COPY_TRAILER = 19, 2  # bytes before and after the rows of a binary COPY


def _copy_pairs(connection: Connection, query: str) -> Ints:
    """Return rows of two bigints, not null, as int64[n, 2]. Uses COPY since a million tuples take seconds."""
    with connection.cursor() as cursor, cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT binary)") as copy:
        data = b"".join(copy)
    rows = np.frombuffer(data[_COPY_HEADER:-_COPY_TRAILER], _COPY_ROW)
    return np.column_stack((rows["first"], rows["second"])).astype(np.int64)
