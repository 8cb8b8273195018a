"""When every device was last heard, of a fleet of any size: columns, reckoned anew every few seconds at most.

The newest merged time of every series is kept beside the points; what is not merged yet is in the young blocks. For
a hundred thousand devices with a million series that is a matter of seconds, so nobody waits for it but the first who
asks: all others get what is known, while a thread reckons anew.
"""

import logging
import threading
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metrics.models import Device
from metrics.storage.connection import Connection, dedicated_connection
from metrics.storage.errors import StorageError
from metrics.storage.format.codec import Columns, DamagedPayload, Ints, decode
from metrics.storage.read import block_cache
from rest.caller import Caller

log = logging.getLogger(__name__)

PERIOD = 5.0  # seconds that an answer serves
SHARE = 10  # and so many times as long as it took to make: of a large fleet not one after the other
MOST_COMMITS = 10_000  # that wait to be merged; of more the newest times come late


@dataclass(frozen=True, slots=True)
class Presence:
    """Devices by ascending primary key.

    heard      µs since 1970, UTC; 0 where nothing was heard yet
    intervals  expected seconds between measurements; 0 where nobody said
    """

    devices: Ints
    heard: Ints
    intervals: Ints

    def visible_to(self, caller: Caller) -> "Presence":
        """Of the devices that a caller sees."""
        if caller.device_id is None and caller.groups is None:
            return self
        seen = np.array(sorted(Device.objects.visible_to(caller).values_list("pk", flat=True)), np.int64)
        return self._kept(np.isin(self.devices, seen))

    def _kept(self, which: NDArray[np.bool_]) -> "Presence":
        return Presence(self.devices[which], self.heard[which], self.intervals[which])


_held: tuple[float, Presence] | None = None  # until when (monotonic), and what
_making = threading.Lock()


def presence() -> Presence:
    """Of all devices, some seconds old. Raises StorageUnavailable where nothing is known yet."""
    held = _held
    if held is None:
        with _making:
            return _held[1] if _held is not None else _make()
    if time.monotonic() >= held[0] and _making.acquire(blocking=False):
        threading.Thread(target=_renew, name="presence", daemon=True).start()
    return held[1]


def _renew() -> None:
    try:
        _make()
    except StorageError as error:
        log.warning("when devices were heard cannot be told anew: %s", str(error).split("\n")[0])
    except Exception:
        log.exception("when devices were heard cannot be told anew")
    finally:
        _making.release()


def _make() -> Presence:
    global _held
    began = time.monotonic()
    with dedicated_connection() as connection:
        found = _now(connection)
    took = time.monotonic() - began
    _held = (time.monotonic() + max(PERIOD, SHARE * took), found)
    return found


def forget() -> None:
    """Start anew: between tests."""
    global _held
    _held = None


def _now(connection: Connection) -> Presence:
    devices = _pairs(connection, "SELECT id, coalesce(expected_interval, 0)::int8 FROM metrics_device ORDER BY id")
    series = _pairs(connection, "SELECT id, device_id FROM metrics_series ORDER BY id")
    newest = _newest(connection, series[:, 0])
    heard = np.zeros(len(devices), np.int64)
    places = np.searchsorted(devices[:, 0], series[:, 1])
    known = places < len(devices)
    known[known] = devices[places[known], 0] == series[known, 1]
    np.maximum.at(heard, places[known], newest[known])
    return Presence(devices[:, 0], heard, devices[:, 1])


def newest_times(connection: Connection) -> tuple[Ints, Ints]:
    """Every series, ascending, and the time of its newest point (µs), 0 where it has none."""
    series = _pairs(connection, "SELECT id, device_id FROM metrics_series ORDER BY id")[:, 0]
    return series, _newest(connection, series)


def _newest(connection: Connection, series: Ints) -> Ints:
    newest = np.zeros(len(series), np.int64)
    # Young blocks first: what is merged between the two reads is in both.
    parts = [
        part
        for _, parts in block_cache.read_commits_after(connection, _merged(connection), MOST_COMMITS)
        for part in parts
    ]
    with connection.transaction(), connection.cursor("latest", binary=True) as cursor:
        for part in parts:
            _raise(newest, series, part)
        cursor.execute("SELECT payload FROM metrics_latest")
        for (payload,) in cursor:
            try:
                for part in decode(payload):
                    _raise(newest, series, part)
            except DamagedPayload:
                continue  # reads of its points tell of it
    return newest


_ROW = np.dtype([("columns", ">i2"), ("l1", ">i4"), ("first", ">i8"), ("l2", ">i4"), ("second", ">i8")])
_HEAD, _TAIL = 19, 2  # bytes before and after the rows of a COPY in binary


def _pairs(connection: Connection, query: str) -> Ints:
    """Rows of two bigints, none of them null: int64[n, 2]. By COPY, since a million rows as tuples take seconds."""
    with connection.cursor() as cursor, cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT binary)") as copy:
        data = b"".join(copy)
    rows = np.frombuffer(data[_HEAD:-_TAIL], _ROW)
    return np.column_stack((rows["first"], rows["second"])).astype(np.int64)


def _merged(connection: Connection) -> block_cache.CommitCursor:
    return dict(connection.execute("SELECT shard, seq FROM metrics_merged").fetchall())


def _raise(newest: Ints, numbers: Ints, part: Columns) -> None:
    """The last time of every series of a part, where it is later. A series that is newer than `numbers` is left out."""
    places = np.searchsorted(numbers, part.ids)
    last = part.times[part.offsets[1:] - 1]
    known = places < len(numbers)
    known[known] = numbers[places[known]] == part.ids[known]
    np.maximum.at(newest, places[known], last[known])
