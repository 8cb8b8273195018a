"""The offset of the machine's clock, learned from the Date header of the site's answers.

Measured times are sent as they are unless they are wrong by more than a bound. A wrong time is computed again from the
uptime at which the snapshot was measured. The base of that computation changes only when it is wrong by more than the
bound, and is stored in the queue before it is used, so that a repeated snapshot has the same time.
"""

from __future__ import annotations

import logging
import time
from email.utils import parsedate_to_datetime
from typing import Any

from ingest.agent.http_connection import HttpAnswer
from ingest.agent.machine_clock import MachineClock, parse_rfc3339, rfc3339
from ingest.agent.queue import QueuedSnapshot, TelemetryQueue

log = logging.getLogger(__name__)
MAX_OFFSET = 300.0  # seconds
MAX_ROUND_TRIP = 5.0  # seconds; the Date of a slower answer says little


class ClockOffset:
    """Learns the offset and corrects the times of snapshots."""

    def __init__(self, queue: TelemetryQueue, clock: MachineClock, max_offset: float = MAX_OFFSET) -> None:
        self._queue, self._clock, self._max_offset = queue, clock, max_offset
        self._stored: dict[str, Any] = queue.read_clock()  # boot, base: the time of day at uptime 0
        self.offset: float | None = None  # of the site's clock to this one; positive if this one is slow
        self.corrected = 0

    @property
    def is_known(self) -> bool:
        """Return whether times measured since the machine's start can be corrected."""
        return self._stored.get("boot") == self._clock.boot

    def learn(self, answer: HttpAnswer) -> None:
        """Learn from an answer that has just arrived."""
        if answer.arrived - answer.started > MAX_ROUND_TRIP:
            return
        try:
            date = parsedate_to_datetime(answer.headers.get("Date", "")).timestamp() + 0.5  # whole seconds
        except (TypeError, ValueError, IndexError, OverflowError):
            return
        since = time.monotonic() - (answer.started + answer.arrived) / 2
        self.offset = date + since - self._clock.time()
        base = date + since - self._clock.uptime()
        if self.is_known and abs(self._stored.get("base", 0.0) - base) <= self._max_offset:
            return
        self._stored = {"boot": self._clock.boot, "base": base}
        self._queue.store_clock(self._stored)
        if abs(self.offset) > self._max_offset:
            log.warning("the machine's clock differs by %.0f s from the site's: times are corrected", self.offset)

    def corrected_payload(self, snapshot: QueuedSnapshot) -> dict[str, Any]:
        """Return the payload, with the corrected time if the measured one is wrong by more than the bound."""
        if snapshot.boot != self._stored.get("boot"):
            return snapshot.payload
        measured = parse_rfc3339(snapshot.payload.get("timestamp"))
        actual = self._stored["base"] + snapshot.uptime
        if measured is None or abs(actual - measured) <= self._max_offset:
            return snapshot.payload
        if self.corrected == 0:
            log.warning("measured times are wrong by %.0f s: corrected times are sent", actual - measured)
        self.corrected += 1
        return {**snapshot.payload, "timestamp": rfc3339(actual)}
