"""The event bus on the NATS server of this machine, as distributions ship it."""

import os
import uuid
from collections.abc import Iterator
from contextlib import suppress

import pytest
from nats.js.errors import NotFoundError

from telemetry_site.bus.nats_connection import error_text
from telemetry_site.bus.relay import TargetRelay
from telemetry_site.bus.targets.nats_target import NatsTarget, stream_name
from telemetry_site.bus.targets.target import Stream
from tests.private_nats import Session
from tests.telemetry_site.bus.conftest import write_events
from tests.telemetry_site.site_process import wait_until

pytestmark = pytest.mark.slow

SERVER = os.environ.get("TEST_NATS_URL", "nats://127.0.0.1:4222")


@pytest.fixture
def prefix() -> Iterator[str]:
    """A prefix of subjects that only this test uses; its streams are deleted afterwards."""
    name = f"test_{uuid.uuid4().hex[:8]}"
    try:
        session = Session(SERVER)
    except Exception as error:
        pytest.skip(f"no NATS server to be used at {SERVER}: {error_text(error)}")
    with session:
        yield name
        for stream in Stream:
            with suppress(NotFoundError):
                session.run(session.jetstream.delete_stream(stream_name(name, stream)))


def test_events_arrive_in_order_at_an_external_server(site: None, prefix: str) -> None:
    relay = TargetRelay(NatsTarget(SERVER, prefix, ""), poll_interval=0.02)
    devices = write_events(300)
    relay.start()
    stream = stream_name(prefix, Stream.EVENTS)
    with Session(SERVER) as session:

        def has_all() -> bool:
            with suppress(NotFoundError):
                return bool(session.run(session.jetstream.stream_info(stream)).state.messages == len(devices))
            return False

        try:
            wait_until(has_all, 20, "the events are stored")
        finally:
            relay.request_stop()
            relay.join(15)
        received = session.messages(stream)

    assert [data["device_id"] for _, _, data in received] == devices
    assert {subject for subject, _, _ in received} == {f"{prefix}.events.device.created"}
    assert len({headers["Nats-Msg-Id"] for _, headers, _ in received}) == len(devices)
