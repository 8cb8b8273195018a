"""Sending delivered events again, after a target has lost them."""

import re
from collections.abc import Iterable
from datetime import timedelta

from metrics.storage.connection import Connection
from telemetry_site.bus import target_status
from telemetry_site.bus.cursors import load_cursor, rewind_cursor, rewind_positions
from telemetry_site.bus.targets.target import Target

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_duration(text: str) -> timedelta:
    """Read a duration such as 90s, 10m, 1h or 2d. Raises ValueError."""
    match = re.fullmatch(r"(\d{1,6})([smhd])", text.strip())
    if match is None or not int(match[1]):
        raise ValueError("a duration such as 90s, 10m, 1h or 2d is accepted")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def replay(connection: Connection, targets: Iterable[Target], duration: timedelta, epoch: str) -> None:
    """Move targets back. Their relays, in this process or in another one, notice and send the events again."""
    for target in targets:
        with connection.transaction():
            load_cursor(connection, target.name, epoch)
            target_status.mark_replay(connection, target.name)
            rewind_cursor(connection, target.name, duration.total_seconds())
            rewind_positions(connection, target.name, duration.total_seconds())
