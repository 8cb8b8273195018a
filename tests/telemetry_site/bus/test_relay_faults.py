"""Nothing is lost, repeated or out of order while relays and servers fail. Real servers, real processes."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections

from metrics.storage.connection import dedicated_connection
from metrics.storage.locks import lock_event_target, terminate_idle_relay
from metrics.streams.positions import read_epoch
from telemetry_site.bus.backlog import is_drained
from telemetry_site.bus.cursors import rewind_cursor
from telemetry_site.bus.models import BusTarget
from telemetry_site.bus.relay import TargetRelay
from telemetry_site.bus.replay import parse_duration, replay
from telemetry_site.bus.targets.target import Target
from tests.metrics.events.random_writers import RandomWriters
from tests.private_nats import PrivateNats, Session
from tests.telemetry_site.bus.conftest import nats_target, write_events
from tests.telemetry_site.bus.test_nats_target import stored_devices, wait_for_events
from tests.telemetry_site.site_process import ROOT, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("site")]
RunRelay = Callable[[Target], TargetRelay]
KILLS = int(os.environ.get("BUS_KILLS", "8"))  # of the relay; more by hand
OUTAGE = float(os.environ.get("BUS_OUTAGE", "1"))  # seconds without NATS; five minutes by hand
HOUR_OF_EVENTS = 20_000


def wait_until_drained(target: Target, timeout: float = 60.0) -> None:
    with dedicated_connection() as database:
        row = database.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint").fetchone()
        assert row is not None
        wait_until(lambda: is_drained(database, target, row[0]), timeout, "everything is delivered")


def test_events_of_an_hour_arrive_once_in_order_after_the_server_was_stopped_twice(
    nats: PrivateNats, run_relay: RunRelay
) -> None:
    target = nats_target(nats)
    run_relay(target)
    expected = write_events(50, "before")
    wait_until_drained(target)
    nats.stop(signal.SIGTERM)
    ends_at = time.monotonic() + OUTAGE
    while time.monotonic() < ends_at:
        expected += write_events(5, f"while stopped {len(expected)}")
        threading.Event().wait(0.05)
    wait_until(lambda: BusTarget.objects.filter(failing_since__isnull=False).exists(), 20, "the relay has noticed")
    nats.start()
    expected += write_events(10, "after")
    wait_until_drained(target)

    nats.stop(signal.SIGKILL)
    for number in range(HOUR_OF_EVENTS // 1000):
        expected += write_events(1000, f"hour {number}")
    nats.start()
    wait_until_drained(target)

    assert stored_devices(nats) == expected


class RelayProcesses:
    """Relays in processes of their own, one at a time."""

    def __init__(self, nats: PrivateNats) -> None:
        arguments = ["tests.telemetry_site.bus.relay_process", nats.url, connection.settings_dict["NAME"]]
        self._parent = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._running = 0

    def start(self) -> None:
        assert self._parent.stdin is not None
        self._parent.stdin.write("start\n")
        self._parent.stdin.flush()
        self._running = int(self._read_line())

    def kill(self) -> None:
        os.kill(self._running, signal.SIGKILL)
        assert self._read_line() == "ended\n"
        self._running = 0

    def _read_line(self) -> str:
        assert self._parent.stdout is not None
        return self._parent.stdout.readline()

    def close(self) -> None:
        if self._running:
            self.kill()
        self._parent.kill()
        self._parent.communicate(timeout=10)


@pytest.fixture
def relays(nats: PrivateNats, site: None) -> Iterator[RelayProcesses]:
    processes = RelayProcesses(nats)
    yield processes
    processes.close()


def test_relay_killed_at_random_points_repeats_and_loses_nothing(nats: PrivateNats, relays: RelayProcesses) -> None:
    """Each process is killed after a random time, while a writer commits all the time."""
    seed = random.Random(13)
    written: list[str] = []
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            written.extend(write_events(seed.randint(1, 40), f"batch {number}"))
            number += 1
            stop.wait(0.004)
        connections.close_all()

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(KILLS):
        relays.start()
        stop.wait(seed.random() * 0.4)
        relays.kill()
    stop.set()
    writer.join()
    relays.start()
    wait_until_drained(nats_target(nats), 120)

    messages = nats.messages("EVENTS")
    ids = [headers["ce-id"] for _, headers, _ in messages]
    assert len(ids) == len(set(ids))
    assert [data["device_id"] for _, _, data in messages] == written


def test_window_stored_before_a_long_outage_is_skipped_by_the_newest_id(nats: PrivateNats, run_relay: RunRelay) -> None:
    """The stream has forgotten the ids by then, so it would store the window twice."""
    target = nats_target(nats)
    relay = run_relay(target)
    expected = write_events(100)
    wait_until_drained(target)
    relay.request_stop()
    relay.join(10)
    with dedicated_connection() as database, Session(nats.url) as session:
        rewind_cursor(database, "nats", 600)  # as if the relay had died before it stored its position
        database.execute("UPDATE bus_bustarget SET delivered_at = now() - interval '2 hours'")
        info = session.run(session.jetstream.stream_info("EVENTS"))
        info.config.duplicate_window = 0.1  # seconds; the restart takes longer
        session.run(session.jetstream.update_stream(info.config))
    nats.stop()
    nats.start()

    run_relay(target)
    expected += write_events(5, "later")
    wait_until_drained(target)

    assert stored_devices(nats) == expected


def test_replay_restores_what_a_server_lost_that_was_killed(
    nats: PrivateNats, run_relay: RunRelay, tmp_path: Path
) -> None:
    """The store is set back to a copy that lacks the last events, as after a crash before the files were synced."""
    target = nats_target(nats)
    run_relay(target)
    expected = write_events(300, "kept")
    wait_until_drained(target)
    nats.stop()
    shutil.copytree(nats.store, tmp_path / "copy")
    nats.start()
    expected += write_events(200, "lost")
    wait_until_drained(target)
    nats.stop(signal.SIGKILL)
    shutil.rmtree(nats.store)
    shutil.copytree(tmp_path / "copy", nats.store)
    nats.start()
    expected += write_events(20, "after the crash")
    wait_until_drained(target)
    assert set(expected) - set(stored_devices(nats)) == {f"lost {number}" for number in range(200)}

    with dedicated_connection() as database:
        replay(database, [target], parse_duration("10m"), read_epoch(database))
    wait_for_events(nats, 520)
    wait_until_drained(target)

    assert sorted(stored_devices(nats)) == sorted(expected)
    wait_until(lambda: not BusTarget.objects.get().is_replay, 10, "the replay is over")


def test_eight_writers_with_slow_transactions_are_relayed_exactly(nats: PrivateNats, run_relay: RunRelay) -> None:
    target = nats_target(nats)
    run_relay(target)
    writers = RandomWriters(seed=29, rounds=12, max_pause=2.0)
    writers.join()
    wait_until_drained(target)

    writers.check(stored_devices(nats))


def test_second_relay_leads_after_the_first_one_is_killed(
    nats: PrivateNats, relays: RelayProcesses, run_relay: RunRelay
) -> None:
    target = nats_target(nats)
    relays.start()
    expected = write_events(10, "first")
    wait_until_drained(target)
    second = run_relay(target)
    expected += write_events(10, "second")
    wait_until_drained(target)
    assert not second.is_leading.is_set()
    relays.kill()
    assert second.is_leading.wait(5)
    expected += write_events(10, "third")
    wait_until_drained(target)
    assert stored_devices(nats) == expected


def test_full_stream_pushes_back_and_gets_everything_once_it_has_room(nats: PrivateNats, run_relay: RunRelay) -> None:
    target = nats_target(nats)
    run_relay(target)
    expected = write_events(10, "first")
    wait_until_drained(target)
    with Session(nats.url) as session:
        info = session.run(session.jetstream.stream_info("EVENTS"))
        info.config.max_msgs = 20
        session.run(session.jetstream.update_stream(info.config))
        expected += write_events(300, "more")
        wait_until(_last_error, 20, "the error is reported")
        assert "maximum messages exceeded" in _last_error()
        assert stored_devices(nats) == expected[:20]
        info.config.max_msgs = -1
        session.run(session.jetstream.update_stream(info.config))
    wait_until_drained(target)
    assert stored_devices(nats) == expected


def _last_error() -> Any:
    return BusTarget.objects.filter(failing_since__isnull=False).values_list("last_error", flat=True).first()


def test_lock_of_a_frozen_relay_is_released_after_its_timeout(site: None) -> None:
    with dedicated_connection() as frozen, dedicated_connection() as other:
        assert lock_event_target(frozen, "nats")
        assert not lock_event_target(other, "nats")
        assert lock_event_target(other, "redis")  # another target
        assert not terminate_idle_relay(other, "nats", 60)
        assert terminate_idle_relay(other, "nats", 0)
        wait_until(lambda: lock_event_target(other, "nats"), 10, "the lock is released")
