"""The order in which points arrive at a site: measured now and sent now, or kept offline and sent late together.

The iterator holds a few hundred thousand points at a time, whatever the length of the range.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from telemetry_client.simulator.drivers import DAY
from telemetry_client.simulator.fleet import Column, Device, Fleet
from telemetry_client.simulator.hashing import Bools, Floats, Ints, derive_key, uniform

WINDOW_POINTS = 400_000  # generated at a time
_LATENCY = 0.1  # of an interval, at most


@dataclass(slots=True)
class Arrival:
    """Points of one device that arrive together at a true time (ms). `is_late`: some were kept while offline."""

    at: int
    device: Device
    columns: list[Column]
    is_late: bool = False

    def __len__(self) -> int:
        return sum(map(len, self.columns))


def arrivals(fleet: Fleet, start: int, end: int, send_every: int = 0) -> Iterator[Arrival]:
    """Yield the arrivals from `start` to before `end` (ms), in order.

    A device sends every `send_every` ms, a multiple of its interval, by default every interval. The first arrivals of a
    range may hold points that were measured before it; those that are still kept at its end are not yielded, but begin
    the next range. So consecutive ranges yield the same arrivals as one long range.
    """
    period = send_every or fleet.interval_ms
    if period % fleet.interval_ms:
        raise ValueError(f"send_every must be a multiple of the interval of {fleet.interval:g} seconds")
    points_per_slot = max(fleet.points_per_day * period / DAY, 1e-9)
    slots_per_window = max(int(WINDOW_POINTS / points_per_slot), 1)
    first, last = start // period, (end - 1) // period + 1
    for low in range(first, last, slots_per_window):
        window = _Window(fleet, period, low, min(low + slots_per_window, last))
        yield from window.arrivals(start, end)


def send_times(device: Device, period: int, slots: Ints) -> Ints:
    """Return when a device sends the points of each slot: shortly after the last measurement of it."""
    latency: Floats = uniform(derive_key(device.key, "latency"), slots) ** 2 * (_LATENCY * device.interval)
    return (slots + 1) * period - device.interval + device.phase + 1 + latency.astype(np.int64)


class _Window:
    """The arrivals of a range of slots: periods of which each device sends the points at its end."""

    def __init__(self, fleet: Fleet, period: int, low: int, high: int) -> None:
        self._devices, self._period, self._low = fleet.devices, period, low
        self._slots: Ints = np.arange(low, high, dtype=np.int64)
        self._sent_at = np.array([send_times(device, period, self._slots) for device in self._devices])

    def arrivals(self, start: int, end: int) -> Iterator[Arrival]:
        devices = [_DeviceWindow(device, self._period, self._slots) for device in self._devices]
        # Slot after slot, since no device sends the points of a slot before another one those of the slot before.
        order = self._sent_at.T.argsort(axis=1, kind="stable")
        for position, numbers in enumerate(order.tolist()):
            for number in numbers:
                at = int(self._sent_at[number, position])
                if start <= at < end and (arrival := devices[number].arrival(position, at)) is not None:
                    yield arrival


class _DeviceWindow:
    """The points of one device in a range of slots, and which of them it cannot send at once."""

    def __init__(self, device: Device, period: int, slots: Ints) -> None:
        self._device, self._period, self._slots = device, period, slots
        self._start = int(slots[0]) * period
        self._columns: list[Column] | None = None
        self._unreachable = self._find_unreachable(np.concatenate([slots[:1] - 1, slots]))

    def _find_unreachable(self, slots: Ints) -> Bools:
        """Return whether the device has no connection when it would send the points of each slot."""
        sent_at = send_times(self._device, self._period, slots)
        unreachable = np.zeros(len(slots), bool)
        for start, end in self._device.schedule.unreachable(int(sent_at[0]), int(sent_at[-1]) + 1):
            unreachable |= (start <= sent_at) & (sent_at < end)
        return unreachable

    def arrival(self, position: int, at: int) -> Arrival | None:
        """Return the arrival of a slot; None if the device cannot send or measured nothing."""
        if self._unreachable[position + 1]:
            return None
        end = int(self._slots[position] + 1) * self._period
        begin = end - self._period
        if self._unreachable[position]:
            columns = self._device.columns(self._kept_since(int(self._slots[position]) - 1), end)
        else:
            columns = [column.slice(begin, end) for column in self._window_columns()]
        columns = [column for column in columns if len(column)]
        is_late = any(column.true_times[0] < begin for column in columns)
        return Arrival(at, self._device, columns, is_late) if columns else None

    def _window_columns(self) -> list[Column]:
        if self._columns is None:
            self._columns = self._device.columns(self._start, int(self._slots[-1] + 1) * self._period)
        return self._columns

    def _kept_since(self, slot: int) -> int:
        """Return the start of the earliest of the slots up to this one that could not be sent."""
        while True:
            sent_at = self._send_time(slot)
            periods = list(self._device.schedule.unreachable(sent_at, sent_at + 1))
            if not periods:
                return (slot + 1) * self._period
            begin = min(periods).start
            slot = begin // self._period
            slot -= self._send_time(slot) >= begin

    def _send_time(self, slot: int) -> int:
        return int(send_times(self._device, self._period, np.array([slot], np.int64))[0])
