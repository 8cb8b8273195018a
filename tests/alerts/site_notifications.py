"""Send breaches to a running site over HTTP, and record the notifications that its receiver gets."""

import http.client
import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import psycopg

from telemetry_site.embedded.paths import DataFolder
from tests.alerts.receivers import WebhookReceiver
from tests.telemetry_site.site_process import Site, wait_until

MAX_DELAY = 60.0  # seconds from a breach to its notification, with any fault
BREACH_INTERVAL = 0.1  # seconds


@dataclass
class NotificationRecorder:
    """The breaches of a rule, each of its own device, and their notifications.

    sent     time of each breach by device
    errors   responses to breaches that were not stored
    slowest  seconds of the slowest response
    """

    site: Site
    receiver: WebhookReceiver
    metric: str
    sent: dict[str, float] = field(default_factory=dict)
    errors: list[object] = field(default_factory=list)
    slowest: float = 0.0
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def send_breach(self) -> None:
        device = f"{self.metric}-{next(self._numbers)}"
        point = {"timestamp": datetime.now(UTC).isoformat(), "metric_name": self.metric, "value": 95.0}
        started = time.monotonic()
        try:
            status, body = self.site.request("POST", f"/devices/{device}/telemetry", point)
        except (OSError, http.client.HTTPException) as error:
            self.errors.append(error)
            return
        self.slowest = max(self.slowest, time.monotonic() - started)
        if status == 200:
            self.sent[device] = started
        else:
            self.errors.append((status, body))

    @contextmanager
    def sending_breaches(self) -> Iterator[None]:
        """Send breaches while the block runs."""
        stop = threading.Event()

        def send() -> None:
            while not stop.wait(BREACH_INTERVAL):
                self.send_breach()

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(30)

    def received(self) -> dict[str, list[tuple[float, str]]]:
        """Return time and idempotency key of each notification by device."""
        notifications: dict[str, list[tuple[float, str]]] = {}
        for request in list(self.receiver.requests):
            for alert in request.json["alerts"]:
                if alert["metric_name"] == self.metric:
                    notifications.setdefault(alert["device_id"], []).append(
                        (request.at, request.headers["Idempotency-Key"])
                    )
        return notifications

    def wait_until_notified(self, timeout: float = MAX_DELAY) -> None:
        wait_until(lambda: self.sent.keys() <= self.received().keys(), timeout, f"all of {len(self.sent)} are notified")

    def assert_notified(self, limit: float, label: str) -> None:
        """Assert that all breaches were stored and notified in time; repeats have the same idempotency key."""
        self.wait_until_notified()
        received = self.received()
        delays = sorted(min(at for at, _ in received[device]) - at for device, at in self.sent.items())
        repeated = sum(len(requests) > 1 for requests in received.values())
        print(
            f"{label}: {len(delays)} notified, median {delays[len(delays) // 2]:.2f} s, slowest {delays[-1]:.2f} s,"
            f" {repeated} repeated, slowest response {self.slowest:.2f} s"
        )
        assert self.errors == []
        assert received.keys() == self.sent.keys()
        assert {len({key for _, key in requests}) for requests in received.values()} == {1}
        assert delays[-1] < limit


def record_notifications(site: Site, receiver: WebhookReceiver, metric: str) -> NotificationRecorder:
    """Create a rule on this metric that notifies the receiver only."""
    create_object(site, "/alerts/channels", {"name": metric, "kind": "webhook", "url": receiver.url})
    create_object(site, "/alerts/rules", rule_fields(metric) | {"notification_channels": [metric]})
    return NotificationRecorder(site, receiver, metric)


def rule_fields(metric: str) -> dict[str, Any]:
    return {"name": metric, "metric_name": metric, "condition": ">", "threshold_value": 90}


def create_object(site: Site, path: str, body: dict[str, Any]) -> Any:
    status, response = site.request("POST", path, body)
    assert status == 201, response
    return response


def connect_to_database(site: Site) -> psycopg.Connection[Any]:
    parameters: Any = DataFolder(site.data_dir).database
    return psycopg.connect(**parameters, autocommit=True)
