"""From the backlog to the site: retried with growing pauses while the site is away, given up where it refuses."""

import http.client
import logging
import random

from ingest.collectors.backlog import Backlog, encode
from ingest.collectors.clock import Clock
from ingest.collectors.receiver import Answer, Receiver

logger = logging.getLogger(__name__)

MOST_POINTS = 1000  # what the site takes in one batch
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
LONGEST_RETRY_AFTER = 3600.0


class Backoff:
    """Pauses that double, each shortened at random so that a thousand collectors don't return as one."""

    def __init__(self, randomness: random.Random) -> None:
        self._random = randomness
        self.failures = 0

    def pause(self, at_least: float = 0.0) -> float:
        full = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self.failures, 16))
        self.failures += 1
        shortened: float = full * self._random.uniform(0.5, 1.0)
        return max(shortened, min(at_least, LONGEST_RETRY_AFTER))

    def reset(self) -> None:
        self.failures = 0


class Delivery:
    """Sends what waits, oldest first. Times are those of the measurement, however late they are sent."""

    def __init__(
        self, backlog: Backlog, receiver: Receiver, clock: Clock, randomness: random.Random | None = None
    ) -> None:
        self._backlog, self._receiver, self._clock = backlog, receiver, clock
        self._backoff = Backoff(randomness or random.Random())  # noqa: S311 - not for secrets
        self._dropped_before = 0  # when the site went away
        self._told_of = 0  # dropped since, and in the log already
        self.refused = 0

    def run(self) -> None:
        """Until the clock says that it is time to end."""
        while not self._clock.wait(0):
            if self._backlog.wait(1.0) and (pause := self.step()) and self._clock.wait(pause):
                return

    def step(self) -> float:
        """One request, if anything waits; how many seconds to wait before the next."""
        taken = self._backlog.take(MOST_POINTS)
        if not taken:
            return 0.0
        try:
            answer = self._receiver.post(encode(taken))
        except (OSError, http.client.HTTPException) as error:
            self._backlog.give_back(taken)
            return self._away(str(error) or type(error).__name__, 0.0)
        if answer.is_transient:
            self._backlog.give_back(taken)
            return self._away(f"{answer.status} {answer.detail}".strip(), answer.retry_after)
        self._settled(answer, len(taken))
        return 0.0

    def _away(self, reason: str, retry_after: float) -> float:
        if self._backoff.failures == 0:
            logger.warning("the site takes nothing now (%s); measurements are kept meanwhile", reason)
        dropped = self._backlog.dropped - self._dropped_before
        if dropped >= max(1, 2 * self._told_of):
            logger.warning("the site is away for long: %d of the oldest measurements dropped", dropped)
            self._told_of = dropped
        return self._backoff.pause(retry_after)

    def _settled(self, answer: Answer, count: int) -> None:
        """The site is there. What it refused it would refuse again."""
        if self._backoff.failures:
            dropped = self._backlog.dropped - self._dropped_before
            logger.info("the site answers again: %d snapshots wait, %d were dropped", len(self._backlog), dropped)
            self._dropped_before, self._told_of = self._backlog.dropped, 0
            self._backoff.reset()
        if not answer.is_taken:
            self.refused += count
            logger.error("refused with %d: %s (%d snapshots so far)", answer.status, answer.detail, self.refused)
        elif answer.errors:
            logger.warning("%d points not taken: %s", answer.errors, answer.detail)
