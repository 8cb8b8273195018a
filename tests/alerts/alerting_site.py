"""Breaches that are sent to a running site over HTTP, and the book that is kept of what its receiver was told."""

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

PROMISE = 60.0  # seconds from a breach to whoever is told of it, through any fault
GAP = 0.1  # seconds between two breaches


@dataclass
class Book:
    """The breaches of a rule, each of a device of its own: when each was sent, and what the receiver heard of it.

    errors   what the site answered where it did not store a breach
    slowest  seconds of the slowest answer
    """

    site: Site
    receiver: WebhookReceiver
    metric: str
    sent: dict[str, float] = field(default_factory=dict)
    errors: list[object] = field(default_factory=list)
    slowest: float = 0.0
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def breach(self) -> None:
        device = f"{self.metric}-{next(self._numbers)}"
        point = {"timestamp": datetime.now(UTC).isoformat(), "metric_name": self.metric, "value": 95.0}
        began = time.monotonic()
        try:
            status, answer = self.site.request("POST", f"/devices/{device}/telemetry", point)
        except (OSError, http.client.HTTPException) as error:
            self.errors.append(error)
            return
        self.slowest = max(self.slowest, time.monotonic() - began)
        if status == 200:
            self.sent[device] = began
        else:
            self.errors.append((status, answer))

    @contextmanager
    def breaching(self) -> Iterator[None]:
        """Breach after breach, while the block runs."""
        over = threading.Event()

        def breach() -> None:
            while not over.wait(GAP):
                self.breach()

        thread = threading.Thread(target=breach)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(30)

    def heard(self) -> dict[str, list[tuple[float, str]]]:
        """By device: when it was told of, and under which key."""
        found: dict[str, list[tuple[float, str]]] = {}
        for one in list(self.receiver.requests):
            for alert in one.json["alerts"]:
                if alert["metric_name"] == self.metric:
                    found.setdefault(alert["device_id"], []).append((one.at, one.headers["Idempotency-Key"]))
        return found

    def await_told(self, patience: float = PROMISE) -> None:
        wait_until(lambda: self.sent.keys() <= self.heard().keys(), patience, f"all of {len(self.sent)} are told of")

    def check(self, within: float, what: str) -> None:
        """All of them were stored, and told of in time; what was told again was so under the same key."""
        self.await_told()
        heard = self.heard()
        delays = sorted(min(at for at, _ in heard[device]) - at for device, at in self.sent.items())
        again = sum(len(some) > 1 for some in heard.values())
        print(
            f"{what}: {len(delays)} told, median {delays[len(delays) // 2]:.2f} s, slowest {delays[-1]:.2f} s,"
            f" {again} told again, slowest answer {self.slowest:.2f} s"
        )
        assert self.errors == []
        assert heard.keys() == self.sent.keys()
        assert {len({key for _, key in some}) for some in heard.values()} == {1}
        assert delays[-1] < within


def book(site: Site, receiver: WebhookReceiver, metric: str) -> Book:
    """A rule about this metric, whose only channel is the receiver."""
    made(site, "/alerts/channels", {"name": metric, "kind": "webhook", "url": receiver.url})
    made(site, "/alerts/rules", rule(metric) | {"notification_channels": [metric]})
    return Book(site, receiver, metric)


def rule(metric: str) -> dict[str, Any]:
    return {"name": metric, "metric_name": metric, "condition": ">", "threshold_value": 90}


def made(site: Site, path: str, body: dict[str, Any]) -> Any:
    status, answer = site.request("POST", path, body)
    assert status == 201, answer
    return answer


def database(site: Site) -> psycopg.Connection[Any]:
    given: Any = DataFolder(site.data_dir).database
    return psycopg.connect(**given, autocommit=True)
