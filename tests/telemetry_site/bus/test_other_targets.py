"""Data events on NATS, signed webhooks and Redis Streams."""

import http.server
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from django.conf import settings as django_settings

from alerts.notifications.channels.webhook import sign
from metrics.storage.connection import dedicated_connection
from metrics.storage.merge.schedule import merge_commits
from metrics.storage.read.block_cache import read_heads
from telemetry_site.bus.data_source import COMMITS_PER_RUN, split_into_runs
from telemetry_site.bus.models import BusTarget, CommitPosition, ParkedMessage
from telemetry_site.bus.relay import TargetRelay
from telemetry_site.bus.targets.redis_target import RedisTarget
from telemetry_site.bus.targets.webhook_target import WebhookTarget
from telemetry_site.bus.webhook_settings import EventWebhook, parse_webhooks
from tests.conftest import ApiClient
from tests.private_nats import PrivateNats
from tests.telemetry_site.bus.conftest import nats_target, write_events
from tests.telemetry_site.bus.test_relay_faults import wait_until_drained
from tests.telemetry_site.site_process import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("site")]
RunRelay = Callable[..., TargetRelay]
SECRET = "s" * 32
YESTERDAY = (datetime.now(UTC) - timedelta(days=1)).date()


def send_points(client: ApiClient, device_id: str, metrics: int, count: int = 2) -> None:
    points = [
        {"timestamp": f"{YESTERDAY}T03:04:0{second}Z", "metric_name": f"m{metric:03}", "value": second}
        for metric in range(metrics)
        for second in range(count)
    ]
    answer = client.post(f"devices/{device_id}/telemetry/batch", {"data_points": points})
    assert answer.status == 200, answer.raw


class Receiver:
    """A webhook receiver that answers as its test says and keeps what it accepted."""

    def __init__(self) -> None:
        self.answers: list[int] = []  # statuses of the next requests; 200 after these
        self.refused_type = ""  # batches with this type are answered 422
        self.events: list[dict[str, Any]] = []
        self.headers: dict[str, str] = {}
        self.body = b""
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                events = json.loads(body)
                status = receiver.answers.pop(0) if receiver.answers else 200
                if receiver.refused_type in [event["type"] for event in events]:
                    status = 422
                if status == 200:
                    receiver.events += events
                    receiver.headers, receiver.body = dict(self.headers.items()), body
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "http://10.0.0.1/")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/events"

    def devices(self) -> list[str]:
        return [event["data"]["device_id"] for event in self.events]


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    import ipaddress

    settings.ALLOW_PRIVATE_WEBHOOKS = [ipaddress.ip_network("127.0.0.0/8")]
    running = Receiver()
    yield running
    running.server.shutdown()
    running.server.server_close()


def webhook(url: str, *types: str) -> WebhookTarget:
    return WebhookTarget(EventWebhook("test", url, SECRET, types or ("*",)))


def last_error(name: str) -> str:
    return (
        BusTarget.objects.filter(name=name, failing_since__isnull=False).values_list("last_error", flat=True).first()
        or ""
    )


# --- data events ------------------------------------------------------------------------------------


def test_each_commit_gives_one_data_event_per_device(nats: PrivateNats, run_relay: RunRelay, admin: ApiClient) -> None:
    target = nats_target(nats)
    run_relay(target)
    wait_until(CommitPosition.objects.exists, 20, "the relay follows the commits")
    send_points(admin, "boiler", metrics=120)
    send_points(admin, "pump", metrics=1)
    wait_until_drained(target)

    (_, headers, boiler), (subject, _, pump) = nats.messages("DATA")

    assert subject == "telemetry.data.received"
    assert (headers["ce-type"], headers["ce-subject"]) == ("telemetry.data.received", "device/boiler")
    assert headers["Nats-Msg-Id"] == headers["ce-id"]
    assert (boiler["points"], len(boiler["metrics"]), boiler["metrics"][0]) == (240, 100, "m000")
    assert pump == {
        "device_id": "pump",
        "points": 2,
        "metrics": ["m000"],
        "time_from": f"{YESTERDAY}T03:04:00.000000Z",
        "time_to": f"{YESTERDAY}T03:04:01.000000Z",
        "shard": 0,
        "sequence": boiler["sequence"] + 1,
    }


def test_commits_merged_during_an_outage_are_reported_by_block(
    nats: PrivateNats, run_relay: RunRelay, admin: ApiClient
) -> None:
    target = nats_target(nats)
    relay = run_relay(target)
    wait_until(CommitPosition.objects.exists, 20, "the relay follows the commits")
    relay.request_stop()
    relay.join(10)
    for device in ("boiler", "pump", "boiler"):
        send_points(admin, device, metrics=3)
    with dedicated_connection() as database:
        merge_commits(database, force=True)
    send_points(admin, "fan", metrics=1)

    run_relay(target)
    wait_until_drained(target)

    events = [data for _, _, data in nats.messages("DATA")]
    assert [event["device_id"] for event in events] == ["boiler", "pump", "fan"]
    assert [event["points"] for event in events[:2]] == [6, 6]  # the second batch has the same times
    assert events[0]["sequence_to"] - events[0]["sequence"] == 2
    assert "sequence_to" not in events[2]


def send_commits(admin: ApiClient, count: int) -> list[int]:
    """Send one point after the other, each in a commit; return the numbers of the commits."""
    for number in range(count):
        point = {"timestamp": f"{YESTERDAY}T04:{number:02}:00Z", "metric_name": "level", "value": number}
        assert admin.post(f"devices/device_{number % 3}/telemetry", point).status == 200
    with dedicated_connection() as database:
        head = read_heads(database)[0]
    return list(range(head - count + 1, head + 1))


def test_many_waiting_commits_are_reported_in_runs_without_loss(
    nats: PrivateNats, run_relay: RunRelay, admin: ApiClient
) -> None:
    target = nats_target(nats)
    relay = run_relay(target)
    wait_until(CommitPosition.objects.exists, 20, "the relay follows the commits")
    relay.request_stop()
    relay.join(10)
    numbers = send_commits(admin, 40)

    run_relay(target)
    wait_until_drained(target)

    events = [data for _, _, data in nats.messages("DATA")]
    spans = [(event["sequence"], event.get("sequence_to", event["sequence"])) for event in events]
    assert sorted({number for first, last in spans for number in range(first, last + 1)}) == numbers
    assert sum(event["points"] for event in events) == 40
    runs = {(first, last) for first, last in spans if last > first}
    assert runs
    assert all(first % COMMITS_PER_RUN == 0 and last == first + COMMITS_PER_RUN - 1 for first, last in runs)
    assert all(spans.count(run) == 3 for run in runs)  # one event per device


@pytest.mark.parametrize(
    ("first", "count", "expected"),
    [
        (1, 5, [1, 1, 1, 1, 1]),
        (14, 3, [1, 1, 1]),
        (14, 18, [1, 1, 16]),
        (16, 40, [16, 16]),
        (3, 13 + 16 + 5, [1] * 13 + [16]),
        (0, 0, []),
    ],
)
def test_commits_are_split_into_whole_runs_and_single_ones(first: int, count: int, expected: list[int]) -> None:
    runs = split_into_runs([(first + number, []) for number in range(count)])
    assert [len(run) for run in runs] == expected


# --- webhooks ---------------------------------------------------------------------------------------


def test_webhook_receives_signed_batches_in_order(receiver: Receiver, run_relay: RunRelay) -> None:
    target = webhook(receiver.url)
    expected = write_events(150)
    run_relay(target)
    wait_until_drained(target)

    assert receiver.devices() == expected
    assert receiver.headers["Content-Type"] == "application/cloudevents-batch+json"
    at = int(receiver.headers["X-Telemetry-Signature"].split(",")[0].removeprefix("t="))
    assert receiver.headers["X-Telemetry-Signature"] == sign(SECRET, receiver.body, at)
    assert abs(at - time.time()) < 60
    assert receiver.events[0] | {"id": "", "time": "", "data": {}} == {
        "specversion": "1.0", "id": "", "source": "/telemetry", "type": "device.created", "subject": "device/device 0",
        "time": "", "datacontenttype": "application/json", "dataschema": "urn:telemetry:event:device.created:1",
        "data": {},
    }  # fmt: skip


@pytest.mark.parametrize("status", [500, 503, 404, 401, 302])
def test_webhook_that_fails_gets_everything_later_in_order(
    receiver: Receiver, run_relay: RunRelay, status: int
) -> None:
    receiver.answers = [200, status, status]
    target = webhook(receiver.url)
    expected = write_events(130)
    run_relay(target)
    wait_until(lambda: f"HTTP {status}" in last_error(target.name), 20, "the error is reported")
    wait_until_drained(target)
    assert receiver.devices() == expected


def test_event_that_a_webhook_refuses_is_parked_and_the_others_arrive(receiver: Receiver, run_relay: RunRelay) -> None:
    from django.db import transaction

    from metrics.events.definitions import DeviceDeleted
    from metrics.events.outbox import record_event

    receiver.refused_type = "device.deleted"
    target = webhook(receiver.url)
    expected = write_events(20, "first")
    with transaction.atomic():
        record_event(DeviceDeleted(device_id="refused"))
    expected += write_events(20, "last")
    run_relay(target)
    wait_until_drained(target)

    assert receiver.devices() == expected
    parked = ParkedMessage.objects.get()
    assert (parked.direction, parked.peer, parked.type) == ("outbound", "webhook test", "device.deleted")
    assert parked.reason.startswith("HTTP 422")


def test_webhook_receives_only_the_types_that_it_names(
    receiver: Receiver, run_relay: RunRelay, admin: ApiClient
) -> None:
    data, alerts = webhook(receiver.url, "telemetry.*"), webhook(receiver.url, "alert.*")
    assert [stream.value for stream in data.streams] == ["events", "data"]
    write_events(3)
    run_relay(alerts)
    wait_until_drained(alerts)
    assert receiver.events == []


def test_webhook_to_a_private_address_is_not_called(run_relay: RunRelay, receiver: Receiver, settings: Any) -> None:
    settings.ALLOW_PRIVATE_WEBHOOKS = []
    target = webhook(receiver.url)
    write_events(1)
    run_relay(target)
    wait_until(lambda: "is not a public address" in last_error(target.name), 20, "the error is reported")
    assert receiver.events == []


def test_webhook_that_drips_ends_at_its_deadline(
    receiver: Receiver, run_relay: RunRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alerts.notifications.channels.webhook.SEND_TIMEOUT", 0.5)
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            connection, _ = listening.accept()
            while not ended.wait(0.05):
                try:
                    connection.sendall(b"H")
                except OSError:
                    return

        threading.Thread(target=drip, daemon=True).start()
        target = webhook(f"http://127.0.0.1:{listening.getsockname()[1]}/")
        write_events(1)
        run_relay(target)
        wait_until(lambda: last_error(target.name), 20, "the error is reported")
        assert "no response within 0.5 s" in last_error(target.name)
        ended.set()


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        pytest.param("{}", "a JSON list such as", id="object"),
        pytest.param('[{"url": "ftp://a.example"}]', "url must be an address", id="scheme"),
        pytest.param(
            '[{"url": "https://a.example", "secret": "short"}]', "secret must be a text of at least 16", id="secret"
        ),
        pytest.param('[{"url": "https://a.example", "types": "*"}]', "types must be a list", id="types"),
        pytest.param('[{"url": "https://a.example", "uri": 1}]', "'uri' is unknown", id="unknown"),
        pytest.param(
            '[{"url": "https://a.example"}, {"url": "https://a.example/2"}]', "two webhooks have the name", id="names"
        ),
    ],
)
def test_invalid_webhook_setting_is_rejected_with_the_accepted_form(text: str, accepted: str) -> None:
    with pytest.raises(ValueError, match=accepted):
        parse_webhooks(text)


# --- Redis Streams ----------------------------------------------------------------------------------


def test_redis_stream_receives_each_event_once_also_after_a_restart(run_relay: RunRelay) -> None:
    with redis.Redis.from_url(django_settings.REDIS_URL) as client:
        client.delete("bus-test", "bus-test:data")
        target = RedisTarget(django_settings.REDIS_URL, "bus-test")
        expected = write_events(300, "first")
        relay = run_relay(target)
        wait_until_drained(target)
        relay.request_stop()
        relay.join(10)
        expected += write_events(5, "second")
        run_relay(target)
        wait_until_drained(target)

        entries: Any = client.xrange("bus-test")
        client.delete("bus-test", "bus-test:data")
    assert [json.loads(fields[b"data"])["device_id"] for _, fields in entries] == expected
    assert entries[0][1][b"type"] == b"device.created"
    assert set(entries[0][1]) == {
        b"specversion", b"id", b"source", b"type", b"subject", b"time", b"datacontenttype", b"dataschema", b"data",
    }  # fmt: skip
