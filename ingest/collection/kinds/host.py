"""Sensors of the machine of the worker."""

import threading
from collections.abc import Mapping
from typing import Any

from ingest.collection.kinds.kind import Collected, CollectionJob, Kind
from ingest.collectors.clock import SystemClock
from ingest.collectors.reading import Reading
from ingest.collectors.sensors import Sensors, host_sensors
from rest.fields import StrictSerializer

SETTLE_TIME = 1.0  # seconds; rates over less are not meaningful

_lock = threading.Lock()
_sensors: Sensors | None = None


class HostConfiguration(StrictSerializer):
    """Has no fields."""


class HostKind(Kind):
    name, label = "host", "Host"
    description = "CPU, memory, disks and network of the machine that the worker runs on."
    configuration_class = HostConfiguration

    def target(self, configuration: Mapping[str, Any]) -> str:
        return "the machine of the worker"

    def collect(self, job: CollectionJob) -> Collected:
        with _lock:  # the sensors keep the last reading of each rate
            return [Reading(*measurement) for measurement in _started_sensors().read()]


def _started_sensors() -> Sensors:
    """Return the sensors of this process. At first takes a second, since rates need two readings."""
    global _sensors
    if _sensors is None:
        clock = SystemClock()
        sensors = Sensors(host_sensors(clock))
        sensors.read()
        clock.wait(SETTLE_TIME)
        _sensors = sensors
    return _sensors


def reset_sensors() -> None:
    """Start the sensors again at the next collection."""
    global _sensors
    _sensors = None
