"""Fixtures of the event bus: a private NATS server, relays, and events to relay."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.db import transaction

from metrics.events.definitions import DeviceCreated
from metrics.events.outbox import record_events
from telemetry_site.bus.relay import TargetRelay
from telemetry_site.bus.targets.nats_target import NatsTarget
from telemetry_site.bus.targets.target import Target
from tests.private_nats import PrivateNats, nats_server

STOP_TIMEOUT = 15.0


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[PrivateNats]:
    yield from nats_server(tmp_path)


@pytest.fixture
def run_relay(site: None) -> Iterator[Callable[[Target], TargetRelay]]:
    """Return a function that starts a relay; all of them end with the test."""
    relays: list[TargetRelay] = []

    def start(target: Target) -> TargetRelay:
        relay = TargetRelay(target, poll_interval=0.02)
        relays.append(relay)
        relay.start()
        return relay

    yield start
    for relay in relays:
        relay.request_stop()
    for relay in relays:
        relay.join(STOP_TIMEOUT)
        assert not relay.is_alive()


def nats_target(server: PrivateNats) -> NatsTarget:
    return NatsTarget(server.url, "telemetry", server.monitoring_url)


def write_events(count: int, prefix: str = "device") -> list[str]:
    """Record events in one transaction; return their devices."""
    devices = [f"{prefix} {number}" for number in range(count)]
    with transaction.atomic():
        record_events([DeviceCreated(device_id=device) for device in devices])
    return devices
