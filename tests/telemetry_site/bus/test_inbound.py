"""Events of other services through a real NATS server: what they do, and what becomes of unusable ones."""

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from metrics.models import AuditEntry, Deletion, Device
from telemetry_site.bus.inbound import handlers
from telemetry_site.bus.inbound.consumer import MAX_ACK_PENDING, MAX_DELIVER, InboundLoop
from telemetry_site.bus.models import HandledMessage, ParkedMessage
from tests.conftest import ApiClient
from tests.private_nats import PrivateNats, Session
from tests.telemetry_site.site_process import wait_until

pytestmark = pytest.mark.slow
TIMEOUT = 20.0


class OtherService:
    """Publishes to the subjects of other services, and waits until the site has answered every message."""

    def __init__(self, nats: PrivateNats, loop: InboundLoop) -> None:
        self.session = Session(nats.url)
        self.loop = loop
        wait_until(lambda: self._consumer() is not None, TIMEOUT, "the consumer exists")

    def _consumer(self) -> Any:
        from nats.js.errors import NotFoundError

        try:
            return self.session.run(self.session.jetstream.consumer_info("SERVICES", self.loop.durable_name))
        except NotFoundError:
            return None

    def publish(self, subject: str, payload: Any, headers: dict[str, str] | None = None) -> None:
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.session.run(self.session.jetstream.publish(subject, body, headers=headers))

    def send(self, subject: str, payload: Any, headers: dict[str, str] | None = None) -> None:
        """Publish, and wait until nothing is left to answer."""
        self.publish(subject, payload, headers)
        self.wait()

    def wait(self) -> None:
        wait_until(self._is_done, TIMEOUT, "every message is answered")

    def _is_done(self) -> bool:
        info = self._consumer()
        return info.num_pending == 0 and info.num_ack_pending == 0


@pytest.fixture
def service(nats: PrivateNats, site: None) -> Iterator[OtherService]:
    loop = InboundLoop(nats.url, "telemetry", "services.>", backoff=(0.01,))
    loop.start()
    other = OtherService(nats, loop)
    yield other
    loop.request_stop()
    loop.join(15)
    assert not loop.is_alive()
    other.session.__exit__()


def cloud_headers(event_type: str = "device.deleted", **more: str) -> dict[str, str]:
    return {"ce-specversion": "1.0", "ce-id": str(uuid.uuid4()), "ce-source": "/devices", "ce-type": event_type} | {
        f"ce-{name}": value for name, value in more.items()
    }


def structured(data: Any, **attributes: Any) -> dict[str, Any]:
    return {"specversion": "1.0", "id": str(uuid.uuid4()), "source": "/s", "type": "device.deleted", "data": data} | (
        attributes
    )


@pytest.mark.parametrize(
    ("subject", "payload", "headers"),
    [
        pytest.param("services.events", {"device_id": "boiler"}, cloud_headers(), id="binary"),
        pytest.param(
            "services.events", {"device_id": "boiler"}, cloud_headers("org.acme.device.deleted"), id="prefixed"
        ),
        pytest.param(
            "services.events",
            structured({"device_id": "boiler"}),
            {"Content-Type": "application/cloudevents+json; charset=utf-8"},
            id="structured",
        ),
        pytest.param("services.events", structured({"device_id": "boiler"}), None, id="structured without header"),
        pytest.param("services.inventory.device.deleted", {"device_id": "boiler"}, None, id="plain JSON"),
    ],
)
def test_device_deleted_elsewhere_is_deleted_with_audit_entry(
    service: OtherService, subject: str, payload: Any, headers: dict[str, str] | None
) -> None:
    Device.objects.create(device_id="boiler")
    Device.objects.create(device_id="pump")

    service.send(subject, payload, headers)

    assert list(Device.objects.values_list("device_id", flat=True)) == ["pump"]
    assert Deletion.objects.get().requested_by.startswith("bus:")
    assert AuditEntry.objects.filter(action="deleted", object_id="boiler").get().actor.startswith("bus:")
    assert not ParkedMessage.objects.exists()


def test_repeated_event_does_not_delete_the_device_that_was_created_since(service: OtherService) -> None:
    Device.objects.create(device_id="boiler")
    headers = cloud_headers()
    service.send("services.devices", {"device_id": "boiler"}, headers)
    Device.objects.create(device_id="boiler")

    service.send("services.devices", {"device_id": "boiler"}, headers)
    assert Device.objects.filter(device_id="boiler").exists()
    assert HandledMessage.objects.count() == 1

    service.send("services.devices", {"device_id": "boiler"}, cloud_headers())
    assert not Device.objects.filter(device_id="boiler").exists()


def test_unknown_devices_and_types_are_acknowledged_without_effect(service: OtherService) -> None:
    Device.objects.create(device_id="boiler")
    service.send("services.devices", {"device_id": "unknown"}, cloud_headers())
    service.send("services.billing.invoice.paid", {"device_id": "boiler"})
    service.send("services.devices", {"device_id": "boiler"}, cloud_headers("device.created"))
    service.send("services.devices", {"device_id": "boiler"}, cloud_headers(source="/telemetry"))

    assert Device.objects.filter(device_id="boiler").exists()
    assert not ParkedMessage.objects.exists()


@pytest.mark.parametrize(
    ("payload", "headers", "reason"),
    [
        pytest.param({}, cloud_headers(), "device_id is missing", id="no device"),
        pytest.param({"device_id": 7}, cloud_headers(), "device_id must be a text of 1 to 200 characters", id="number"),
        pytest.param({"device_id": ""}, cloud_headers(), "device_id must be a text", id="empty text"),
        pytest.param({"device_id": "x" * 201}, cloud_headers(), "device_id must be a text", id="long text"),
        pytest.param({"device_id": "a\0b"}, cloud_headers(), "device_id must be a text", id="NUL"),
        pytest.param([{"device_id": "boiler"}], cloud_headers(), "the payload must be a JSON object", id="array"),
        pytest.param(b"{device", cloud_headers(), "the payload must be a JSON object", id="not JSON"),
        pytest.param(b"\xff\xfe\0", cloud_headers(), "the payload must be a JSON object", id="bytes"),
        pytest.param(b"", cloud_headers(), "the payload must be a JSON object", id="empty payload"),
        pytest.param(b"[" * 100_000, cloud_headers(), "the payload must be a JSON object", id="deep"),
        pytest.param(structured("boiler"), None, "data must be a JSON object", id="data is a text"),
        pytest.param(structured({"device_id": "boiler"}, id=7), None, "id must be a text", id="id is a number"),
        pytest.param(structured({}, specversion="0.3"), None, "specversion must be 1.0", id="old version"),
        pytest.param(
            [structured({"device_id": "boiler"})],
            {"Content-Type": "application/cloudevents-batch+json"},
            "batches of events are not accepted",
            id="batch",
        ),
    ],
)
def test_invalid_event_is_parked_with_its_reason_and_the_next_one_is_processed(
    service: OtherService, payload: Any, headers: dict[str, str] | None, reason: str
) -> None:
    Device.objects.create(device_id="boiler")
    Device.objects.create(device_id="pump")
    service.publish("services.device.deleted", payload, headers)
    service.send("services.device.deleted", {"device_id": "pump"}, cloud_headers())

    assert list(Device.objects.values_list("device_id", flat=True)) == ["boiler"]
    parked = ParkedMessage.objects.get()
    assert parked.reason.startswith(reason)
    assert (parked.attempts, parked.peer, parked.subject) == (1, "SERVICES", "services.device.deleted")


def test_message_of_ten_megabytes_is_parked_in_part(tmp_path: Any, site: None) -> None:
    nats = PrivateNats(tmp_path, max_payload=16_000_000, max_pending=32_000_000)
    loop = InboundLoop(nats.url, "telemetry", "services.>")
    loop.start()
    try:
        other = OtherService(nats, loop)
        other.send("services.device.deleted", b'{"device_id": "' + b"x" * 10_000_000 + b'"}', cloud_headers())
        other.session.__exit__()
    finally:
        loop.request_stop()
        loop.join(15)
        nats.stop()

    parked = ParkedMessage.objects.get()
    assert parked.reason == "10,000,017 bytes; at most 262,144 are accepted"
    assert (parked.is_complete, len(parked.payload)) == (False, 16_384)


def test_event_that_always_fails_is_parked_after_six_attempts(
    service: OtherService, monkeypatch: pytest.MonkeyPatch, admin: ApiClient
) -> None:
    attempts = []

    def fail(event: Any, by: Any) -> str:
        attempts.append(event.id)
        raise RuntimeError("the disk of the exports is away")

    monkeypatch.setitem(handlers.HANDLERS, "device.deleted", fail)
    Device.objects.create(device_id="boiler")
    service.send("services.devices", {"device_id": "boiler"}, cloud_headers())
    parked = ParkedMessage.objects.get()
    assert len(attempts) == MAX_DELIVER == parked.attempts
    assert parked.reason == "failed 6 times: RuntimeError: the disk of the exports is away"
    assert parked.type == "device.deleted"
    assert not HandledMessage.objects.exists()

    monkeypatch.undo()
    answer = admin.post(f"bus/parked/{parked.pk}/replay", None)

    assert answer.status == 200, answer.raw
    assert "device boiler is deleted" in answer.json["message"]
    assert not Device.objects.filter(device_id="boiler").exists()
    assert not ParkedMessage.objects.exists()


def test_event_that_succeeds_at_the_last_attempt_is_not_parked(
    service: OtherService, monkeypatch: pytest.MonkeyPatch
) -> None:
    original: Callable[..., str] = handlers.HANDLERS["device.deleted"]
    attempts = []

    def fail_five_times(event: Any, by: Any) -> str:
        attempts.append(ParkedMessage.objects.count())
        if len(attempts) < MAX_DELIVER:
            raise RuntimeError
        return original(event, by)

    monkeypatch.setitem(handlers.HANDLERS, "device.deleted", fail_five_times)
    Device.objects.create(device_id="boiler")
    service.send("services.devices", {"device_id": "boiler"}, cloud_headers())

    assert attempts == [
        0,
        0,
        0,
        0,
        0,
        1,
    ]  # parked during the last attempt, in case that the process does not survive it
    assert not ParkedMessage.objects.exists()
    assert not Device.objects.filter(device_id="boiler").exists()


def test_message_waits_without_counting_attempts_while_the_database_is_away(
    service: OtherService, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import OperationalError

    original = handlers.HANDLERS["device.deleted"]
    attempts = []

    def fail_twice(event: Any, by: Any) -> str:
        attempts.append(1)
        if len(attempts) < 3:
            raise OperationalError("the database is shutting down")
        return original(event, by)

    monkeypatch.setattr("telemetry_site.bus.inbound.consumer.RETRY_INTERVAL", 0.01)
    monkeypatch.setitem(handlers.HANDLERS, "device.deleted", fail_twice)
    Device.objects.create(device_id="boiler")
    service.send("services.devices", {"device_id": "boiler"}, cloud_headers())

    assert len(attempts) == 3
    assert service._consumer().num_redelivered in (0, None)
    assert not Device.objects.filter(device_id="boiler").exists()


def test_consumer_has_its_limits_and_continues_after_a_restart_of_the_server(
    service: OtherService, nats: PrivateNats
) -> None:
    config = service._consumer().config
    assert (config.max_ack_pending, config.max_deliver) == (MAX_ACK_PENDING, MAX_DELIVER) == (64, 6)
    Device.objects.create(device_id="boiler")
    service.session.__exit__()
    nats.stop()
    nats.start()
    service.session = Session(nats.url)

    service.send("services.devices", {"device_id": "boiler"}, cloud_headers())

    assert not Device.objects.filter(device_id="boiler").exists()
