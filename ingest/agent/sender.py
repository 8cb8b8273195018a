"""Sends the snapshots of the queue, the oldest first, until the site has stored them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from ingest.agent.answers import Action, Outcome
from ingest.agent.bulk import count_points
from ingest.agent.clock_offset import ClockOffset
from ingest.agent.poster import TelemetryPoster
from ingest.agent.queue import DiskFull, QueuedSnapshot, TelemetryQueue

log = logging.getLogger(__name__)
BATCH_SIZE = 500  # snapshots of one request
MAX_BATCH_POINTS = 4000  # a few hundred kilobytes as JSON; larger batches are hardly faster
MAX_BATCH_BYTES = 128 * 1024  # as snapshots; a bulk request has about four times that before compression
POLL_TIME = 1.0  # seconds
DISK_FULL_PAUSE = 30.0


class Sender:
    """Takes snapshots from the queue, posts them and removes what is stored."""

    def __init__(
        self,
        queue: TelemetryQueue,
        poster: TelemetryPoster,
        clock: ClockOffset,
        after_delivery: Callable[[], None] = lambda: None,
    ) -> None:
        self._queue, self._poster, self._clock, self._after_delivery = queue, poster, clock, after_delivery
        self._batch_size = BATCH_SIZE
        self._failures = 0
        self._has_date = False  # the site has answered a request for its time, with or without one
        self.last_error = ""

    def run(self, wait: Callable[[float], bool]) -> None:
        """Send until `wait` returns True."""
        pause = 0.0
        while not wait(pause):
            try:
                pause = self.step()
            except DiskFull as error:  # sent snapshots stay in the queue; sending them again changes nothing
                log.error("%s", error)
                pause = DISK_FULL_PAUSE

    def step(self) -> float:
        """Send one request; return the seconds to wait before the next."""
        batch = self._next_batch()
        if not batch:
            return POLL_TIME
        if not self._clock.is_known and not self._has_date:
            self._has_date = self._poster.fetch_date()
        outcome = self._poster.post_batch([self._clock.corrected_payload(snapshot) for snapshot in batch])
        ids = [snapshot.id for snapshot in batch]
        if outcome.action is Action.STORED:
            self._stored(outcome, ids)
            self._after_delivery()
            return 0.0
        if outcome.action in (Action.SPLIT, Action.DROP):
            self._refused(outcome, ids)
            return 0.0
        return self._failed(outcome, ids)

    def _next_batch(self) -> list[QueuedSnapshot]:
        """Return the oldest snapshots that fit into one request."""
        snapshots = self._queue.dequeue(self._batch_size, MAX_BATCH_BYTES)
        points, count = 0, 0
        for snapshot in snapshots:
            points += count_points(snapshot.payload)
            is_alone = not self._poster.can_combine(snapshot.payload)
            # A request of one device is allowed or denied as a whole.
            is_other = snapshot.payload.get("node_id") != snapshots[0].payload.get("node_id")
            if count and (points > MAX_BATCH_POINTS or is_alone or is_other):
                break
            count += 1
            if is_alone:
                break
        return snapshots[:count]

    def _stored(self, outcome: Outcome, ids: Sequence[int]) -> None:
        self._queue.mark_sent(ids)
        if outcome.rejected:
            self._queue.count_rejected_points(outcome.rejected)
            log.warning("the site rejected %d values: %s", outcome.rejected, outcome.detail)
        if self._failures:
            log.info("the site is available again: %d snapshots queued", self._queue.get_queue_size())
        self._failures, self.last_error = 0, ""
        self._batch_size = min(BATCH_SIZE, self._batch_size * 2)

    def _refused(self, outcome: Outcome, ids: Sequence[int]) -> None:
        """Halve the batch, so that only the snapshot that the site rejects is dropped."""
        if len(ids) > 1:
            self._batch_size = max(1, len(ids) // 2)
            return
        self._queue.mark_rejected(ids)
        log.error("the site rejected snapshot %d: %s %s", ids[0], outcome.code, outcome.detail)
        self._batch_size = 2

    def _failed(self, outcome: Outcome, ids: Sequence[int]) -> float:
        self.last_error = f"{outcome.code} {outcome.detail}".strip()
        if self._failures == 0:
            log.warning("the site is unavailable (%s): snapshots are queued", self.last_error)
        self._queue.mark_failed(ids[0])  # the others have not been tried by themselves, and each row costs a write
        self._failures += 1
        self._batch_size = 1  # a small request shows whether the site is back, also over a slow link
        return self._poster.pause(self._failures - 1, outcome)
