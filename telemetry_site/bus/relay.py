"""The relay of one target: a thread that sends committed events in order and stores how far it got.

Of the relays of all processes, one leads: the one whose connection holds the lock of the target.

The position is stored after the target has acknowledged, so nothing is lost; after a crash in between, the target gets
the last window again and drops what it has already, or the relay skips it by the id of the newest stored event.
"""

import logging
import threading
import time

import psycopg
from django.db import close_old_connections

from metrics.storage.connection import Connection, dedicated_connection
from metrics.storage.errors import StorageError
from metrics.storage.locks import lock_event_target, release_locks_of_lost_client, terminate_idle_relay
from metrics.streams.positions import read_epoch
from telemetry_site.bus import target_status
from telemetry_site.bus.cloud_event import CloudEvent
from telemetry_site.bus.cursors import CursorMoved
from telemetry_site.bus.data_source import DataSource
from telemetry_site.bus.event_source import EventSource
from telemetry_site.bus.models import Direction
from telemetry_site.bus.nats_server import ALWAYS
from telemetry_site.bus.parked_messages import park
from telemetry_site.bus.targets.target import WINDOW, Delivery, Stream, Target, TargetUnavailable

log = logging.getLogger(__name__)

POLL_INTERVAL = 0.2  # seconds between looks for new events
LEAD_INTERVAL = 1.0  # seconds between attempts to become the leader
FROZEN_AFTER = 60.0  # seconds without a statement until a leader loses its lock; longer than any call of a target
REPORT_INTERVAL = 5.0  # seconds
MAX_PAUSE = 1.0  # seconds until a source is read again, see `pause_factor`
MIN_RETRY, MAX_RETRY = 0.5, 10.0  # seconds after a failure

Source = EventSource | DataSource


class _Interrupted(Exception):
    """The target cannot take more at the moment."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class TargetRelay(threading.Thread):
    """Relays to one target while this process leads."""

    def __init__(self, target: Target, poll_interval: float = POLL_INTERVAL) -> None:
        super().__init__(name=f"bus {target.name}", daemon=True)
        self.target = target
        self.is_leading = threading.Event()
        self._poll_interval = poll_interval
        self._stopping = threading.Event()
        self._failures = 0
        self._delivered = 0  # since the last report
        self._reported_at = 0.0

    def run(self) -> None:
        while not self._stopping.is_set():
            wait = LEAD_INTERVAL
            try:
                with dedicated_connection() as connection:
                    release_locks_of_lost_client(connection)
                    if lock_event_target(connection, self.target.name):
                        self.is_leading.set()
                        self._lead(connection)
                    else:
                        terminate_idle_relay(connection, self.target.name, FROZEN_AFTER)
            except (StorageError, psycopg.Error) as error:
                log.warning("bus %s: waiting for the database: %s", self.target.name, str(error).split("\n")[0])
            except Exception:
                log.exception("bus %s: the relay failed and is restarted", self.target.name)
                wait = MAX_RETRY
            finally:
                self.is_leading.clear()
                self.target.close()
                close_old_connections()
            self._stopping.wait(wait)

    def request_stop(self) -> None:
        self._stopping.set()

    def _lead(self, connection: Connection) -> None:
        """Relay until this thread is stopped, reconnecting to the target as often as needed."""
        while not self._stopping.is_set():
            try:
                self._relay(connection)
            except CursorMoved:
                log.info("bus %s: the position was moved; sending from there", self.target.name)
            except (TargetUnavailable, _Interrupted) as error:
                self._report_failure(connection, str(error))
                self._failures += 1
                wait = min(MIN_RETRY * 2 ** min(self._failures - 1, 10), MAX_RETRY)
                self._stopping.wait(max(wait, getattr(error, "wait", 0.0)))
            finally:
                self.target.close()

    def _relay(self, connection: Connection) -> None:
        """Send events as they are committed. Raises CursorMoved, TargetUnavailable or _Interrupted."""
        epoch = read_epoch(connection)
        sources = [make_source(stream, self.target.name) for stream in self.target.streams]
        for source in sources:
            source.load(connection, epoch)
        self.target.open()
        self._report_start(connection)
        for source in sources:
            self._skip_stored(connection, source)
        due = dict.fromkeys(sources, 0.0)
        while not self._stopping.is_set():
            began = time.monotonic()
            sent = 0
            for source in [source for source in sources if due[source] <= began]:
                began = time.monotonic()
                sent += self._send_window(connection, source)
                ended = time.monotonic()
                due[source] = ended + min(source.pause_factor * (ended - began), MAX_PAUSE)
            if not sent:
                self._stopping.wait(self._poll_interval)
            if time.monotonic() - self._reported_at > REPORT_INTERVAL:
                self._report(connection)
        self._report(connection)

    def _skip_stored(self, connection: Connection, source: Source) -> None:
        """Skip the events that the target stored without our knowing, unless they are replayed.

        A target that drops duplicates needs this only after a long outage.
        """
        past = target_status.read_past_delivery(connection, self.target.name)
        if past.is_replay or past.seconds < self.target.drops_duplicates_for:
            return
        newest = self.target.newest_id(source.stream)
        ids = [event.id for event in source.read(connection, WINDOW)]
        if newest in ids:
            source.advance(connection, ids.index(newest) + 1)

    def _send_window(self, connection: Connection, source: Source) -> int:
        """Send the next events; return how many were stored or parked."""
        events = source.read(connection, WINDOW)
        if not events:
            return 0
        delivery = self.target.send(source.stream, events)
        if delivery.count:
            source.advance(connection, delivery.count)  # a replay moves the position, which raises CursorMoved here
            self._delivered += delivery.count
        if delivery.refused:
            self._park(connection, source, events[delivery.count], delivery)
        elif delivery.error:
            raise _Interrupted(delivery.error, delivery.retry_after)
        if self._failures:
            self._failures = 0
            log.info("bus %s: events are delivered again", self.target.name)
            self._report(connection)
        return delivery.count + bool(delivery.refused)

    def _park(self, connection: Connection, source: Source, event: CloudEvent, delivery: Delivery) -> None:
        """Store an event that the target will never accept, and continue with the next one."""
        with connection.transaction():
            park(
                connection, Direction.OUTBOUND, self.target.name, event.id, delivery.refused, event.data,
                event_type=event.type, subject=event.subject, headers=event.attributes(),
            )  # fmt: skip
            source.advance(connection, 1)
        log.warning("bus %s: event %s is parked: %s", self.target.name, event.id, delivery.refused)

    def _report_start(self, connection: Connection) -> None:
        interval = self.target.sync_interval()
        if interval and interval != ALWAYS:
            log.warning(
                "bus %s: sync_interval of the server is %s, so a crash can lose what it acknowledged: set it to always,"
                " or run `manage.py run_bus --replay 10m` after a crash",
                self.target.name,
                interval,
            )
        self._report(connection, interval)

    def _report(self, connection: Connection, sync_interval: str = "") -> None:
        target_status.report(connection, self.target.name, self._delivered, sync_interval=sync_interval)
        self._delivered, self._reported_at = 0, time.monotonic()

    def _report_failure(self, connection: Connection, error: str) -> None:
        if not self._failures:
            log.warning("bus %s: events wait: %s", self.target.name, error)
        target_status.report(connection, self.target.name, self._delivered, error)
        self._delivered, self._reported_at = 0, time.monotonic()


def make_source(stream: Stream, name: str) -> Source:
    """Return the source of a stream for a target."""
    return EventSource(name) if stream is Stream.EVENTS else DataSource(name)
