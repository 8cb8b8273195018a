"""What is wrong with the demo fleet at the end of its history, so that there are open alerts."""

from dataclasses import dataclass

import numpy as np

from dashboard.demo.content import FLEET
from telemetry_client.simulator.drivers import HOUR, MINUTE
from telemetry_client.simulator.fleet import Column


@dataclass(frozen=True, slots=True)
class Incident:
    """A metric that is `size` higher from `began` ms before the end; the change takes `ramp` ms."""

    device_id: str
    metric: str
    began: int
    ramp: int
    size: float


INCIDENTS = (
    Incident(FLEET.device(1).device_id, "room_temperature", 90 * MINUTE, 60 * MINUTE, 11.0),  # compressor has failed
    Incident(FLEET.device(5).device_id, "vibration", 4 * HOUR, 3 * HOUR, 4.2),  # bearing
    Incident(FLEET.device(15).device_id, "vibration", 26 * HOUR, 2 * HOUR, 5.0),  # its sensor is to be replaced
    Incident(FLEET.device(14).device_id, "disk_usage", 9 * HOUR, 9 * HOUR, 16.0),  # a log grows
    Incident(FLEET.device(20).device_id, "motor_temperature", 50 * MINUTE, 30 * MINUTE, 45.0),
)
SILENT_DEVICE = FLEET.device(7).device_id  # a gateway
SILENT_FOR = 3 * HOUR


def apply_incidents(device_id: str, columns: list[Column], end: int) -> list[Column]:
    """Return the columns of a device with its incidents at the end of the history (ms)."""
    if device_id == SILENT_DEVICE:
        columns = [column.slice(0, end - SILENT_FOR) for column in columns]
    for incident in INCIDENTS:
        if incident.device_id == device_id:
            columns = [_change(column, incident, end) for column in columns]
    return [column for column in columns if len(column)]


def _change(column: Column, incident: Incident, end: int) -> Column:
    if column.metric.name != incident.metric:
        return column
    part = np.clip((column.true_times - (end - incident.began)) / incident.ramp, 0, 1)
    values = np.clip(column.values + incident.size * part, column.metric.low, column.metric.high)
    return Column(column.metric, column.times, np.round(values, column.metric.decimals), column.true_times)
