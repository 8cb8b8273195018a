"""Sender: create deliveries of due notifications, send them and record the results.

It runs in a thread of a worker and depends on PostgreSQL only: setting `wake` starts a pass at once, otherwise it
polls. Any number of senders may run. After a sender is killed, others send its unrecorded deliveries once their lease
expires.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from queue import Empty, SimpleQueue

from django.db import Error, connection
from django.utils import timezone

from alerts.models import Delivery
from alerts.notifications import escalation, grouping, retry_queue
from alerts.notifications.channels import TRANSPORTS
from alerts.notifications.channels.transport import ChannelMessage, SendFailed, SendReceipt
from alerts.notifications.enqueue import CHANNEL_DISABLED

log = logging.getLogger(__name__)

SENDER_THREADS = 32  # they wait for receivers, and start when there is something to send
FAILING_THREADS = 16  # of them that channels whose last attempt failed may occupy together
POLL_INTERVAL = 0.5  # seconds between passes that nothing wakes
ESCALATION_INTERVAL = timedelta(seconds=5)
SHUTDOWN_TIMEOUT = 5.0  # seconds that a stopping sender waits for attempts in flight


class Sender:
    """Send deliveries in a thread pool; all database work is done by the thread that calls `run` or `step`."""

    def __init__(self, clock: Callable[[], datetime] = timezone.now) -> None:
        self.clock = clock
        self._pool = ThreadPoolExecutor(SENDER_THREADS, "deliver")
        self._in_flight: dict[int, Delivery] = {}
        self._failing: set[int] = set()  # channels whose last attempt failed
        self._finished: SimpleQueue[retry_queue.DeliveryAttempt] = SimpleQueue()
        self._wake = threading.Event()
        self._escalated_at: datetime | None = None

    def run(self, stopping: threading.Event, wake: threading.Event) -> None:
        """Send until `stopping` is set; set `wake` too to stop without waiting for the poll interval."""
        self._wake = wake
        while not stopping.is_set():
            wake.clear()
            try:
                if not self._run_pass():
                    wake.wait(POLL_INTERVAL)
            except Exception:  # the thread must not end: without it no notification is sent
                log.exception("sending notifications failed, retrying")
                connection.close()  # a broken connection is replaced by the next query
                stopping.wait(POLL_INTERVAL)
        self._shut_down()

    def step(self, now: datetime) -> int:
        """Send all deliveries that are due at this time and record them. Returns the number of attempts."""
        attempts = 0
        while True:
            created = grouping.create_deliveries(now)  # repeated: a notice may wait for an earlier one of its alert
            started = self._start(now)
            attempts += started
            while self._in_flight:
                self._record_finished(now, timeout=retry_queue.LEASE.total_seconds())
                attempts += self._start(now)
            if not created and not started:
                return attempts

    def _run_pass(self) -> bool:
        """Record finished attempts and start due ones. Returns whether there was any work."""
        now = self.clock()
        recorded = self._record_finished(now, timeout=None)
        if self._escalated_at is None or now - self._escalated_at >= ESCALATION_INTERVAL:
            self._escalated_at = now
            escalation.enqueue_due(now)
        created = grouping.create_deliveries(now)
        return bool(self._start(now) + recorded + created)

    def _start(self, now: datetime) -> int:
        """Claim one delivery per free thread and start sending them."""
        started = 0
        for only_failing in (False, True) if self._failing else (False,):
            in_flight = self._in_flight.values()
            free = SENDER_THREADS - len(in_flight)
            if only_failing:
                free = min(free, FAILING_THREADS - sum(delivery.channel_id in self._failing for delivery in in_flight))
            if free <= 0:
                continue
            for delivery in retry_queue.claim_deliveries(now, free, in_flight, self._failing, only_failing):
                self._in_flight[delivery.pk] = delivery
                self._pool.submit(self._send, delivery)
                started += 1
        return started

    def _send(self, delivery: Delivery) -> None:
        self._finished.put((delivery, send(delivery)))
        self._wake.set()

    def _record_finished(self, now: datetime, timeout: float | None) -> int:
        """Record finished attempts; with a timeout, wait for the first one. Returns their number."""
        attempts: list[retry_queue.DeliveryAttempt] = []
        try:
            if timeout is not None:
                attempts.append(self._finished.get(timeout=timeout))
            while True:
                attempts.append(self._finished.get_nowait())
        except Empty:
            pass
        for delivery, result in attempts:
            del self._in_flight[delivery.pk]
            if delivery.channel_id is not None:
                (self._failing.add if isinstance(result, SendFailed) else self._failing.discard)(delivery.channel_id)
        if attempts:
            retry_queue.record_attempts(attempts, now)
        return len(attempts)

    def _shut_down(self) -> None:
        """Record attempts that finish within the timeout; other senders retry the rest after the lease expires."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        deadline = self.clock() + timedelta(seconds=SHUTDOWN_TIMEOUT)
        try:
            while self._in_flight and (remaining := (deadline - self.clock()).total_seconds()) > 0:
                self._record_finished(self.clock(), timeout=remaining)
        except Error:
            log.exception("recording the last deliveries failed, they will be sent again")
        connection.close()


def send(delivery: Delivery) -> SendReceipt | SendFailed:
    """Send a delivery and return the result; never raises."""
    channel = delivery.channel
    if channel is None:
        return SendFailed("the channel was deleted", retry=False)
    if not channel.enabled and not delivery.test:
        return SendFailed(CHANNEL_DISABLED, retry=False)
    try:
        message = ChannelMessage(delivery.delivery_id, delivery.title, delivery.payload, delivery.accepted_by)
        return TRANSPORTS[channel.kind].send(channel, message)
    except SendFailed as failure:
        return failure
    except Exception as error:  # a bug in a transport must not end the thread or lose its delivery
        log.exception("delivery %s: unexpected error", delivery.delivery_id)
        return SendFailed(f"{type(error).__name__}: {error}")
