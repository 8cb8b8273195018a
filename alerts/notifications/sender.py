"""The sender: makes deliveries of what is due, sends them, and marks them.

It lives in a thread of a worker and needs PostgreSQL alone: `wake` makes it quick, and without that it looks twice a
second. Any number of them may run; what one had in hand when it was killed is sent by another once its lease lapses.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from queue import Empty, SimpleQueue
from typing import Final

from django.db import Error, connection
from django.utils import timezone

from alerts.models import Delivery
from alerts.notifications import escalation, grouping, retry_queue
from alerts.notifications.channels import TRANSPORTS
from alerts.notifications.channels.transport import Message, NotSent, Sent
from alerts.notifications.enqueue import DISABLED

logger = logging.getLogger(__name__)

THREADS: Final = 8
LOOKS: Final = 0.5  # seconds between looks where nothing wakes it
SWEEPS: Final = timedelta(seconds=5)
PATIENCE: Final = 5.0  # seconds that it waits at the end for what it has in hand


class Sender:
    """Sends in a few threads; all of the database's work is done in the thread that runs it."""

    def __init__(self, clock: Callable[[], datetime] = timezone.now) -> None:
        self.clock = clock
        self._pool = ThreadPoolExecutor(THREADS, "deliver")
        self._in_hand: dict[int, Delivery] = {}
        self._done: SimpleQueue[retry_queue.Outcome] = SimpleQueue()
        self._wake = threading.Event()
        self._swept: datetime | None = None

    def run(self, stopping: threading.Event, wake: threading.Event) -> None:
        """Until `stopping`, which comes with a `wake` where it is to be at once."""
        self._wake = wake
        while not stopping.is_set():
            wake.clear()
            try:
                if not self._look():
                    wake.wait(LOOKS)
            except Exception:  # nobody is told of anything where this thread ends
                logger.exception("notifications cannot be sent: trying again")
                connection.close()  # where that is what is wrong, the next one is another
                stopping.wait(LOOKS)
        self._end()

    def step(self, now: datetime) -> int:
        """Send whatever is due at this moment, and wait until it is marked. Returns how many attempts there were."""
        attempts = 0
        while True:
            formed = grouping.form(now)  # again and again: some wait for an earlier one of their alert
            started = self._start(now)
            attempts += started
            while self._in_hand:
                self._mark_done(now, timeout=retry_queue.LEASE.total_seconds())
                attempts += self._start(now)
            if not formed and not started:
                return attempts

    def _look(self) -> bool:
        """Do what there is to do; returns whether there was anything."""
        now = self.clock()
        marked = self._mark_done(now, timeout=None)
        if self._swept is None or now - self._swept >= SWEEPS:
            self._swept = now
            escalation.sweep(now)
        formed = grouping.form(now)
        return bool(self._start(now) + marked + formed)

    def _start(self, now: datetime) -> int:
        """Claim as many deliveries as there are free threads, and send them."""
        if len(self._in_hand) >= THREADS:
            return 0
        busy = [delivery.channel_id for delivery in self._in_hand.values() if delivery.channel_id is not None]
        claimed = retry_queue.claim(now, busy, THREADS - len(self._in_hand))
        for delivery in claimed:
            self._in_hand[delivery.pk] = delivery
            self._pool.submit(self._send, delivery)
        return len(claimed)

    def _send(self, delivery: Delivery) -> None:
        self._done.put((delivery, send(delivery)))
        self._wake.set()

    def _mark_done(self, now: datetime, timeout: float | None) -> int:
        """Mark what was sent; with a timeout, wait for the first. Returns how many."""
        outcomes: list[retry_queue.Outcome] = []
        try:
            if timeout is not None:
                outcomes.append(self._done.get(timeout=timeout))
            while True:
                outcomes.append(self._done.get_nowait())
        except Empty:
            pass
        for delivery, _ in outcomes:
            del self._in_hand[delivery.pk]
        if outcomes:
            retry_queue.mark(outcomes, now)
        return len(outcomes)

    def _end(self) -> None:
        """Mark what still arrives; the rest is left to whoever finds its lease lapsed."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        until = self.clock() + timedelta(seconds=PATIENCE)
        try:
            while self._in_hand and (left := (until - self.clock()).total_seconds()) > 0:
                self._mark_done(self.clock(), timeout=left)
        except Error:
            logger.exception("what was sent last cannot be marked, and is sent again")
        connection.close()


def send(delivery: Delivery) -> Sent | NotSent:
    """Send a delivery, whatever happens."""
    channel = delivery.channel
    if channel is None:
        return NotSent("the channel was deleted", again=False)
    if not channel.enabled and not delivery.test:
        return NotSent(DISABLED, again=False)
    try:
        return TRANSPORTS[channel.kind].send(channel, Message(delivery.delivery_id, delivery.title, delivery.payload))
    except NotSent as outcome:
        return outcome
    except Exception as error:  # a fault of ours must neither end the thread nor lose what it had in hand
        logger.exception("delivery %s failed unexpectedly", delivery.delivery_id)
        return NotSent(f"{type(error).__name__}: {error}")
