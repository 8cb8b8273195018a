"""One snapshot of this machine as the body of a batch request. The host's agent takes one every few seconds."""

import json
from datetime import UTC, datetime

from ingest.collectors.clock import CollectorClock
from ingest.collectors.sensors import Sensors, host_sensors

SETTLE_TIME = 1.0  # seconds between two readings; rates over less are not meaningful


def measure_once(clock: CollectorClock) -> bytes:
    """Return the body of a batch request. Takes a second, since rates need two readings."""
    sensors = Sensors(host_sensors(clock))
    sensors.read()
    clock.wait(SETTLE_TIME)
    time = datetime.fromtimestamp(clock.time(), UTC).isoformat().replace("+00:00", "Z")
    points = [
        {"timestamp": time, "metric_name": measurement.metric, "value": measurement.value}
        | ({"unit": measurement.unit} if measurement.unit else {})
        for measurement in sensors.read()
    ]
    return json.dumps({"data_points": points}, separators=(",", ":")).encode()
