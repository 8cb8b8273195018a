"""Clocks of the machine: the time of day, which may be wrong, and the time since its start, which is not."""

from __future__ import annotations

import time
import uuid
from datetime import datetime, timezone
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class MachineClock:
    """The clocks of this machine."""

    def __init__(self) -> None:
        try:
            self.boot = uuid.UUID(_BOOT_ID.read_text().strip()).hex
        except (OSError, ValueError):
            self.boot = uuid.uuid4().hex  # uptimes are comparable in this process only

    def time(self) -> float:
        """Return seconds since 1970, UTC."""
        return time.time()

    def uptime(self) -> float:
        """Return seconds since the machine's start, including the time it was suspended."""
        if hasattr(time, "CLOCK_BOOTTIME"):
            return time.clock_gettime(time.CLOCK_BOOTTIME)
        return time.monotonic()


def rfc3339(seconds: float) -> str:
    """Return a time in UTC with milliseconds."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_rfc3339(text: object) -> float | None:
    """Return seconds since 1970; None if the text is not a time with a zone."""
    if not isinstance(text, str):
        return None
    try:
        time_of = datetime.fromisoformat(text.strip().replace("Z", "+00:00").replace("z", "+00:00"))
    except ValueError:
        return None
    return None if time_of.tzinfo is None else time_of.timestamp()
