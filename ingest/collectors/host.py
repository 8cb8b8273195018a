"""Measures the machine it runs on and sends that to the site: `python -m ingest.collectors.host`.

TELEMETRY_URL            address of the site, such as http://127.0.0.1:8218
TELEMETRY_DEVICE_ID      what this machine is called there
TELEMETRY_API_KEY_FILE   file that holds the key, read again when the site no longer knows it
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

from ingest.collectors.backlog import Backlog
from ingest.collectors.clock import Clock, SystemClock, ticks
from ingest.collectors.delivery import Delivery
from ingest.collectors.receiver import BadAddress, Receiver
from ingest.collectors.sensors import Sensors, host_sensors

INTERVAL = 5.0
SETTLE = 1.0  # rates over less than that say little
MOST_WAITING = 6 * 720  # six hours
LONGEST_DEVICE_ID = 200


class BadVariable(Exception):
    """An environment variable is missing or cannot be used; the message is one line."""


def measure(clock: Clock, sensors: Sensors, backlog: Backlog) -> None:
    """Into the backlog, every five seconds, until the clock says that it is time to end."""
    sensors.read()  # what rates are reckoned from
    for at in ticks(clock, INTERVAL, SETTLE):
        readings = sensors.read()
        if readings:
            backlog.add(at, readings)


def receiver_of(variables: Mapping[str, str]) -> Receiver:
    """The site that the environment names."""

    def given(name: str, accepted: str) -> str:
        if not (value := variables.get(name, "").strip()):
            raise BadVariable(f"{name} is not set: {accepted}")
        return value

    url = given("TELEMETRY_URL", "the site's address is needed, such as http://127.0.0.1:8218")
    device = given("TELEMETRY_DEVICE_ID", "what this machine is called on the site is needed")
    file = Path(given("TELEMETRY_API_KEY_FILE", "the file that holds the API key is needed"))
    if len(device) > LONGEST_DEVICE_ID:
        raise BadVariable(f"TELEMETRY_DEVICE_ID has {len(device)} characters: up to {LONGEST_DEVICE_ID} are accepted")
    try:
        return Receiver(url, device, file)
    except BadAddress as error:
        raise BadVariable(f"TELEMETRY_URL={url!r} cannot be used: {error}") from None
    except OSError as error:
        raise BadVariable(f"TELEMETRY_API_KEY_FILE={str(file)!r} cannot be used: {error.strerror or error}") from None


def end(_signal: int, _frame: FrameType | None) -> NoReturn:
    # Raised rather than noted, so that it ends whatever is under way; the other thread is a daemon and goes along.
    raise SystemExit(0)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    try:
        receiver = receiver_of(os.environ)
    except BadVariable as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    clock = SystemClock()
    backlog = Backlog(MOST_WAITING)
    delivery = Delivery(backlog, receiver, clock)

    def deliver() -> None:
        try:
            delivery.run()
        finally:  # measuring for nobody would look like health: whoever started this may start it again
            clock.end()

    threading.Thread(target=deliver, daemon=True, name="delivery").start()
    measure(clock, Sensors(host_sensors(clock)), backlog)
    sys.exit(1)


if __name__ == "__main__":
    main()
