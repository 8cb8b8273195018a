"""Events of devices that fall silent and come back, by the rules by which pages show them as offline.

The silent devices are stored, so that each change is one event: whichever worker notices it, and after a restart.
"""

import numpy as np

from metrics.devices.device_state import OFFLINE, offline_limits, ranks_of
from metrics.events.definitions import DeviceBack, DeviceSilent
from metrics.events.outbox import write_events
from metrics.query.last_seen import LastSeenColumns, read_last_seen
from metrics.storage.connection import Connection
from metrics.storage.format.codec import Ints
from metrics.storage.locks import lock_device_states
from metrics.storage.units import to_datetime

EVENT_BATCH = 10_000  # devices per statement

_SILENT = "SELECT device_id FROM metrics_silentdevice ORDER BY device_id"
_INSERT = """
WITH inserted AS (
    INSERT INTO metrics_silentdevice (device_id, last_seen)
    SELECT device_id, timestamptz 'epoch' + make_interval(secs => last_seen / 1e6)
    FROM unnest(%s::bigint[], %s::bigint[]) silent (device_id, last_seen)
    ON CONFLICT DO NOTHING RETURNING device_id
) SELECT d.id, d.device_id FROM metrics_device d JOIN inserted i ON i.device_id = d.id ORDER BY d.id
"""
# Devices that were deleted have no event of their return.
_DELETE = """
WITH deleted AS (DELETE FROM metrics_silentdevice WHERE device_id = ANY(%s) RETURNING device_id)
SELECT d.id, d.device_id FROM metrics_device d JOIN deleted ON deleted.device_id = d.id ORDER BY d.id
"""


def record_state_changes(connection: Connection) -> int:
    """Record the devices that fell silent or came back since the last call; return how many changed.

    Does nothing while another worker does it. The times are read under the lock: with older ones than those of the last
    call, a device that is back would fall silent again.
    """
    with connection.transaction():
        if not lock_device_states(connection):
            return 0
        fleet = read_last_seen(connection)
        is_offline = ranks_of(fleet) == OFFLINE.rank
        silent = np.array([row[0] for row in connection.execute(_SILENT)], np.int64)
        new = np.flatnonzero(is_offline & ~np.isin(fleet.devices, silent))
        returned = np.setdiff1d(silent, fleet.devices[is_offline])
        for first in range(0, len(new), EVENT_BATCH):
            _record_silent(connection, fleet, new[first : first + EVENT_BATCH])
        for first in range(0, len(returned), EVENT_BATCH):
            _record_returned(connection, fleet, returned[first : first + EVENT_BATCH])
        return len(new) + len(returned)


def _record_silent(connection: Connection, fleet: LastSeenColumns, positions: Ints) -> None:
    devices, times = fleet.devices[positions], fleet.times[positions]
    limits = offline_limits(fleet.intervals[positions])
    details = dict(zip(devices.tolist(), zip(times.tolist(), limits.tolist(), strict=True), strict=True))
    rows = connection.execute(_INSERT, (devices.tolist(), times.tolist())).fetchall()
    write_events(connection, [_silent_event(device_id, *details[number]) for number, device_id in rows])


def _silent_event(device_id: str, last_seen: int, limit: int) -> DeviceSilent:
    return DeviceSilent(device_id=device_id, last_seen=to_datetime(last_seen), offline_after_seconds=limit)


def _record_returned(connection: Connection, fleet: LastSeenColumns, devices: Ints) -> None:
    rows = connection.execute(_DELETE, (devices.tolist(),)).fetchall()
    last_seen = dict(zip(fleet.devices.tolist(), fleet.times.tolist(), strict=True))
    events = [
        DeviceBack(device_id=device_id, last_seen=to_datetime(last_seen[number]))
        for number, device_id in rows
        if number in last_seen
    ]
    write_events(connection, events)
