"""Sends snapshots from the queue to the site: with exponential backoff while it is unavailable, once if it rejects."""

import http.client
import logging
import random

from ingest.collectors.clock import CollectorClock
from ingest.collectors.site_client import SiteClient, SiteResponse
from ingest.collectors.snapshot_queue import SnapshotQueue, encode

log = logging.getLogger(__name__)

MAX_REQUEST_POINTS = 1000  # as the site accepts in one batch
FIRST_PAUSE = 1.0  # seconds
MAX_PAUSE = 30.0
MAX_RETRY_AFTER = 3600.0


class Backoff:
    """Exponential backoff with random jitter, so that many collectors do not retry at the same time."""

    def __init__(self, randomness: random.Random) -> None:
        self._random = randomness
        self.failures = 0

    def pause(self, at_least: float = 0.0) -> float:
        full = min(MAX_PAUSE, FIRST_PAUSE * 2.0 ** min(self.failures, 16))
        self.failures += 1
        shortened: float = full * self._random.uniform(0.5, 1.0)
        return max(shortened, min(at_least, MAX_RETRY_AFTER))

    def reset(self) -> None:
        self.failures = 0


class SnapshotSender:
    """Sends queued snapshots, the oldest first, with the times of their measurement."""

    def __init__(
        self, queue: SnapshotQueue, client: SiteClient, clock: CollectorClock, randomness: random.Random | None = None
    ) -> None:
        self._queue, self._client, self._clock = queue, client, clock
        self._backoff = Backoff(randomness or random.Random())  # noqa: S311 - not for secrets
        self._dropped_before = 0  # at the start of the outage
        self._logged_drops = 0  # of this outage
        self.rejected = 0

    def run(self) -> None:
        """Send until the clock ends."""
        while not self._clock.wait(0):
            if self._queue.wait(1.0) and (pause := self.step()) and self._clock.wait(pause):
                return

    def step(self) -> float:
        """Send one request unless the queue is empty; return the seconds to wait before the next."""
        taken = self._queue.take(MAX_REQUEST_POINTS)
        if not taken:
            return 0.0
        try:
            response = self._client.post(encode(taken))
        except (OSError, http.client.HTTPException) as error:
            self._queue.give_back(taken)
            return self._unavailable(str(error) or type(error).__name__, 0.0)
        if response.is_transient:
            self._queue.give_back(taken)
            return self._unavailable(f"{response.status} {response.detail}".strip(), response.retry_after)
        self._delivered(response, len(taken))
        return 0.0

    def _unavailable(self, reason: str, retry_after: float) -> float:
        if self._backoff.failures == 0:
            log.warning("the site is unavailable (%s); snapshots are queued", reason)
        dropped = self._queue.dropped - self._dropped_before
        if dropped >= max(1, 2 * self._logged_drops):
            log.warning("the queue is full: %d of the oldest snapshots dropped", dropped)
            self._logged_drops = dropped
        return self._backoff.pause(retry_after)

    def _delivered(self, response: SiteResponse, count: int) -> None:
        """Log a final response. Rejected snapshots are not sent again."""
        if self._backoff.failures:
            dropped = self._queue.dropped - self._dropped_before
            log.info("the site is available again: %d snapshots queued, %d dropped", len(self._queue), dropped)
            self._dropped_before, self._logged_drops = self._queue.dropped, 0
            self._backoff.reset()
        if not response.is_success:
            self.rejected += count
            log.error("rejected with %d: %s (%d snapshots so far)", response.status, response.detail, self.rejected)
        elif response.errors:
            log.warning("%d points rejected: %s", response.errors, response.detail)
