"""This machine measured once, now: what `ingest.collectors.host` does every few seconds."""

from ingest.collectors.backlog import Backlog, encode
from ingest.collectors.clock import Clock
from ingest.collectors.host import SETTLE
from ingest.collectors.sensors import Sensors, host_sensors

MOST_POINTS = 1000


def measure_once(clock: Clock) -> bytes:
    """The body of a batch request; takes a second, since rates need two looks."""
    sensors, backlog = Sensors(host_sensors(clock)), Backlog(1)
    sensors.read()
    clock.wait(SETTLE)
    backlog.add(clock.time(), sensors.read())
    return encode(backlog.take(MOST_POINTS))
