"""Store the points of the demo fleet through the pipeline, as if devices had sent them."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import numpy as np

from dashboard.demo.content import FLEET, HISTORY
from dashboard.demo.incidents import Incidents
from ingest.pipeline import accept
from ingest.wire.batch import Batch, Group, RequestRejected
from rest.caller import Caller
from telemetry_client.simulator.drivers import DAY, MINUTE
from telemetry_client.simulator.events import arrivals
from telemetry_client.simulator.fleet import Column, Device

NEWEST = 10 * MINUTE  # stored at the end and together, so that alert rules evaluate them as new points
FOLLOW_PERIOD = 1.0  # seconds between batches of new points
CATCH_UP = 10 * MINUTE  # stored at a time after a pause


def store_history(end: int, caller: Caller) -> int:
    """Store the history that ends at `end` (ms); return the number of points. Storing it again changes nothing."""
    start = end - HISTORY // timedelta(milliseconds=1)
    incidents, points = Incidents.until(end), 0
    for device in FLEET.devices:
        until = min(_sent_until(device, end), end - NEWEST)
        for low in range(start, until, DAY):
            points += store([(device.device_id, _columns(device, low, min(low + DAY, until), incidents))], caller)
    newest = [
        (device.device_id, _columns(device, end - NEWEST, _sent_until(device, end), incidents))
        for device in FLEET.devices
    ]
    return points + store(newest, caller)


def _columns(device: Device, start: int, end: int, incidents: Incidents) -> list[Column]:
    columns = device.columns(start, end) if start < end else []
    return incidents.apply(device.device_id, columns)


def _sent_until(device: Device, end: int) -> int:
    """Return until when the device has sent its points: not those of a connection that is lost at the end."""
    return min([end, *(period.start for period in device.schedule.unreachable(end, end + 1))])


def store(devices: list[tuple[str, list[Column]]], caller: Caller) -> int:
    """Store points of some devices; return their number. Points that a metric definition rejects are left out."""
    points = 0
    # Numbers are stored as one array, much faster than with texts and booleans among them.
    for is_number in (True, False):
        chosen = [
            (device_id, [column for column in columns if (column.values.dtype == np.float64) == is_number])
            for device_id, columns in devices
        ]
        chosen = [(device_id, columns) for device_id, columns in chosen if columns]
        if chosen:
            with suppress(RequestRejected):  # not one point is valid
                points += accept(_batch(chosen, is_number), caller, keep_rejected=False).accepted
    return points


def _batch(devices: list[tuple[str, list[Column]]], is_number: bool) -> Batch:
    groups, metrics, size = [], [], 0
    for device_id, columns in devices:
        count = sum(map(len, columns))
        groups.append(Group(device_id, size, size + count))
        size += count
        for column in columns:
            metrics += [column.metric.name] * len(column)
    parts = [column for _, columns in devices for column in columns]
    times = np.concatenate([column.times for column in parts]) * 1000  # µs
    values: Any
    if is_number:
        values = np.concatenate([column.values for column in parts])
    else:
        values = [value for column in parts for value in column.values.tolist()]
    return Batch(groups, metrics, times, values)


def follow(
    start: int,
    incidents: Incidents,
    caller: Caller,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[int]:
    """Store the points that the fleet sends from `start` (ms) on, without end; yield the time of the last ones (ms).

    The incidents at the end of the history continue.
    """
    while True:
        end = min(round(clock() * 1000), start + CATCH_UP)
        if end > start:
            devices: dict[str, list[Column]] = {}
            for arrival in arrivals(FLEET, start, end):
                device_id = arrival.device.device_id
                devices.setdefault(device_id, []).extend(incidents.apply(device_id, arrival.columns))
            store(list(devices.items()), caller)
            start = end
            yield end
        if round(clock() * 1000) - start < FOLLOW_PERIOD * 1000:
            sleep(FOLLOW_PERIOD)
