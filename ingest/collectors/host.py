"""Host collector: measures its machine and sends the snapshots to the site: `python -m ingest.collectors.host`.

TELEMETRY_URL            URL of the site, such as http://127.0.0.1:8218
TELEMETRY_DEVICE_ID      device id of this machine
TELEMETRY_API_KEY_FILE   file with the API key, read again when the site rejects the key
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import NoReturn

from ingest.collectors.clock import CollectorClock, SystemClock, ticks
from ingest.collectors.sensors import Sensors, host_sensors
from ingest.collectors.site_client import InvalidUrl, SiteClient
from ingest.collectors.snapshot_queue import SnapshotQueue
from ingest.collectors.snapshot_sender import SnapshotSender

INTERVAL = 5.0  # seconds
SETTLE_TIME = 1.0  # seconds before the first snapshot; rates over less are not meaningful
MAX_QUEUED = 6 * 720  # snapshots of six hours
MAX_DEVICE_ID_LENGTH = 200  # as the site accepts


class InvalidVariable(Exception):
    """An environment variable is missing or invalid; the message is one line."""


def measure(clock: CollectorClock, sensors: Sensors, queue: SnapshotQueue) -> None:
    """Add a snapshot to the queue every five seconds until the clock ends."""
    sensors.read()  # the start values of rates
    for at in ticks(clock, INTERVAL, SETTLE_TIME):
        measurements = sensors.read()
        if measurements:
            queue.add(at, measurements)


def client_from_environment(variables: Mapping[str, str]) -> SiteClient:
    """Return the client of the configured site. Raises InvalidVariable."""

    def required(name: str, accepted: str) -> str:
        if not (value := variables.get(name, "").strip()):
            raise InvalidVariable(f"{name} is not set: {accepted}")
        return value

    url = required("TELEMETRY_URL", "the URL of the site is required, such as http://127.0.0.1:8218")
    device = required("TELEMETRY_DEVICE_ID", "the device id of this machine is required")
    file = Path(required("TELEMETRY_API_KEY_FILE", "the file with the API key is required"))
    if len(device) > MAX_DEVICE_ID_LENGTH:
        raise InvalidVariable(
            f"TELEMETRY_DEVICE_ID has {len(device)} characters: at most {MAX_DEVICE_ID_LENGTH} are accepted"
        )
    try:
        return SiteClient(url, device, file)
    except InvalidUrl as error:
        raise InvalidVariable(f"TELEMETRY_URL={url!r} cannot be used: {error}") from None
    except OSError as error:
        raise InvalidVariable(
            f"TELEMETRY_API_KEY_FILE={str(file)!r} cannot be used: {error.strerror or error}"
        ) from None


def stop(_signal: int, _frame: FrameType | None) -> NoReturn:
    # An exception interrupts any wait; the other thread is a daemon and ends with the process.
    raise SystemExit(0)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        client = client_from_environment(os.environ)
    except InvalidVariable as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    clock = SystemClock()
    queue = SnapshotQueue(MAX_QUEUED)
    sender = SnapshotSender(queue, client, clock)

    def send() -> None:
        try:
            sender.run()
        finally:  # without a sender the process has to end, so that the supervisor restarts it
            clock.end()

    threading.Thread(target=send, daemon=True, name="sender").start()
    measure(clock, Sensors(host_sensors(clock)), queue)
    sys.exit(1)


if __name__ == "__main__":
    main()
