"""Incidents of the demo fleet at the end of its history, so that alerts are open."""

from dataclasses import dataclass

import numpy as np

from dashboard.demo.content import FLEET
from telemetry_client.simulator.drivers import HOUR, MINUTE
from telemetry_client.simulator.fleet import Column, Device

SILENT_FOR = 3 * HOUR
_STRENGTH = 0.9  # the rest of a value is as without the incident, so that it still varies
_REACHABLE_FOR = 6 * HOUR  # before the end, of devices with incidents


@dataclass(frozen=True, slots=True)
class Incident:
    """A metric that moves towards `target` in `ramp` ms, from `began` ms before the end of the history."""

    device_id: str
    metric: str
    began: int
    ramp: int
    target: float


@dataclass(frozen=True, slots=True)
class Incidents:
    """The incidents of a history that ends at `end` (ms).

    silent_device    a gateway that sends nothing in the last hours
    silenced_device  a pump whose alert is silenced
    """

    end: int
    changes: tuple[Incident, ...]
    silent_device: str
    silenced_device: str

    @classmethod
    def until(cls, end: int) -> "Incidents":
        """Return the incidents of devices that can send in the last hours."""
        pumps, gateways = _find_reachable("pump", end), _find_reachable("gateway", end)
        cold_store, servers = _find_reachable("cold-store", end)[0], _find_reachable("server", end)
        changes = (
            Incident(cold_store, "room_temperature", 90 * MINUTE, HOUR, -5.5),  # its compressor has failed
            Incident(pumps[0], "vibration", 4 * HOUR, 3 * HOUR, 7.0),  # a bearing is worn
            Incident(pumps[1], "vibration", 5 * HOUR, 2 * HOUR, 7.5),  # the sensor is to be replaced
            Incident(servers[0], "disk_usage", 9 * HOUR, 9 * HOUR, 93.0),  # a log grows
            Incident(servers[1], "response_time", 4 * MINUTE, MINUTE, 900.0),  # a slow query
            Incident(pumps[2], "motor_temperature", 50 * MINUTE, 30 * MINUTE, 95.0),
        )
        return cls(end, changes, gateways[0], pumps[1])

    def apply(self, device_id: str, columns: list[Column]) -> list[Column]:
        """Return the columns of a device as its incidents change them."""
        if device_id == self.silent_device:
            columns = [column.slice(0, self.end - SILENT_FOR) for column in columns]
        for change in self.changes:
            if change.device_id == device_id:
                columns = [self._change(column, change) for column in columns]
        return [column for column in columns if len(column)]

    def _change(self, column: Column, change: Incident) -> Column:
        if column.metric.name != change.metric:
            return column
        part = np.clip((column.true_times - (self.end - change.began)) / change.ramp, 0, 1) * _STRENGTH
        values = column.values * (1 - part) + change.target * part
        return Column(column.metric, column.times, np.round(values, column.metric.decimals), column.true_times)


def _find_reachable(type_name: str, end: int) -> list[str]:
    """Return the devices of a type, first those that can send in the last hours."""
    devices = [device for device in FLEET.devices if device.type.name == type_name]

    def is_unreachable(device: Device) -> bool:
        return any(device.schedule.unreachable(end - _REACHABLE_FOR, end + HOUR))

    return [device.device_id for device in sorted(devices, key=is_unreachable)]
