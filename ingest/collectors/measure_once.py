"""One snapshot of this machine; `ingest.collectors.host` takes one every few seconds."""

from ingest.collectors.clock import CollectorClock
from ingest.collectors.host import SETTLE_TIME
from ingest.collectors.sensors import Sensors, host_sensors
from ingest.collectors.snapshot_queue import SnapshotQueue, encode
from ingest.collectors.snapshot_sender import MAX_REQUEST_POINTS


def measure_once(clock: CollectorClock) -> bytes:
    """Return the body of a batch request. Takes a second, since rates need two readings."""
    sensors, queue = Sensors(host_sensors(clock)), SnapshotQueue(1)
    sensors.read()
    clock.wait(SETTLE_TIME)
    queue.add(clock.time(), sensors.read())
    return encode(queue.take(MAX_REQUEST_POINTS))
