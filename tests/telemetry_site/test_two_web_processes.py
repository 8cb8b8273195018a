"""A change in one web process applies in the others within a second, or at once where a request requires it."""

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from ingest.models import ApiKey
from metrics.models import MetricDefinition
from tests.conftest import ApiClient, point
from tests.telemetry_site.site_process import wait_until
from tests.web_process import second_web_process

pytestmark = pytest.mark.slow

MAX_DELAY = 1.0  # seconds


@pytest.fixture
def second_process(admin: ApiClient) -> Iterator[ApiClient]:
    """The same admin client at a second web process."""
    with second_web_process(admin) as there:
        yield there


def seconds_until(condition: Callable[[], bool]) -> float:
    started_at = time.monotonic()
    wait_until(condition, 10, "the change applies in the other process")
    return time.monotonic() - started_at


def test_changed_definition_applies_in_a_second_process_within_a_second(admin: ApiClient, second_process: ApiClient):
    assert admin.post("metrics", {"name": "m", "data_type": "numeric", "max_value": 10}).status == 201
    delays = []
    for number in range(4):
        value = 20 if number % 2 else 5
        expected = 422 if number % 2 == 0 else 200  # 5 above a bound of 1, then 20 below one of 30
        assert admin.call("PATCH", "metrics/m", {"max_value": 1 if expected == 422 else 30}).status == 200
        delays.append(
            seconds_until(
                lambda v=value, status=expected: (
                    second_process.post("devices/d/telemetry", point("m", v)).status == status
                )
            )
        )
    assert admin.call("DELETE", "metrics/m").status == 200
    delays.append(seconds_until(lambda: second_process.post("devices/d/telemetry", point("m", 1e6)).status == 200))
    assert max(delays) < MAX_DELAY, delays


def test_revoked_key_is_rejected_by_a_second_process_within_a_second(
    admin: ApiClient, gateway: ApiClient, second_process: ApiClient
):
    other = ApiClient(second_process.port, gateway.headers)
    assert other.post("devices/d/telemetry", point()).status == 200
    key = ApiKey.objects.get(scope="ingest")
    key.revoked_at = timezone.now()
    key.save()
    assert seconds_until(lambda: other.post("devices/d/telemetry", point()).status == 401) < MAX_DELAY


def test_first_batches_of_a_device_sent_to_two_processes_at_once_are_both_stored(
    admin: ApiClient, second_process: ApiClient
):
    pairs, ready = 200, threading.Barrier(2)

    def send_first_batches(client: ApiClient, metric: str) -> list[int]:
        statuses = []
        for number in range(pairs):
            ready.wait(30)
            body = {"data_points": [point(metric, number), point(f"{metric}_2", number)]}
            statuses.append(client.post(f"devices/new-{number}/telemetry/batch", body).status)
        return statuses

    with ThreadPoolExecutor(2) as pool:
        statuses = pool.map(send_first_batches, (admin, second_process), ("left", "right"))
    assert Counter(itertools.chain(*statuses)) == {200: 2 * pairs}
    latest = admin.post("latest", {"metrics": ["left", "left_2", "right", "right_2"]}).json["series"]
    stored = {(value["device_id"], value["metric_name"]): value["value"] for value in latest}
    metrics = ("left", "left_2", "right", "right_2")
    assert stored == {(f"new-{number}", metric): number for number in range(pairs) for metric in metrics}


def test_required_revision_applies_in_a_second_process_at_once(
    admin: ApiClient, gateway: ApiClient, second_process: ApiClient
):
    other = ApiClient(second_process.port, gateway.headers)

    def send(revision: str, value: float = 5.0, device: str = "d") -> int:
        return other.call(
            "POST", f"devices/{device}/telemetry", point("m", value), Telemetry_Min_Revision=revision
        ).status

    assert send("0") == 200
    definition = admin.post("metrics", {"name": "m", "data_type": "numeric", "max_value": 10})
    assert send(definition.headers["Telemetry-Revision"], 20) == 422
    deletion = admin.call("DELETE", "devices/d")
    assert send(deletion.headers["Telemetry-Revision"]) == 200
    assert admin.get("devices/d").status == 200
    revocation = admin.post(f"keys/{ApiKey.objects.get(scope='ingest').pk}/revoke", None)
    assert send(revocation.headers["Telemetry-Revision"]) == 401


STEPS, CLIENTS = 10_000, 4  # of all clients together


class DefinitionClient:
    """Changes the definition of one metric and sends its points to two processes, and expects what was acknowledged.

    The oracle: bounds, type and retention of the last acknowledged definition decide on every later point.
    """

    def __init__(self, number: int, processes: tuple[ApiClient, ApiClient]) -> None:
        self.random = random.Random(number)
        self.metric, self.device, self.processes = f"m{number}", f"d{number}", processes
        self.definition: dict[str, Any] | None = None
        self.revision, self.changed_by = 0, 0
        self.changes = self.writes = 0
        self.stored: set[float] = set()
        self.differences: list[Any] = []

    def run(self, steps: int) -> "DefinitionClient":
        for step in range(steps):
            if self.random.random() < 0.25:
                self.change()
            else:
                self.write(step)
        return self

    def change(self) -> None:
        self.changed_by = self.random.randrange(2)
        process, fields = self.processes[self.changed_by], {}
        if self.definition is not None and self.random.random() < 0.3:
            answer, self.definition = process.call("DELETE", f"metrics/{self.metric}"), None
        else:
            fields = {"max_value": self.random.choice((10, 1000)), "retention_days": self.random.choice((30, 90))}
            if self.definition is None:
                body = {"name": self.metric, "data_type": "numeric", **fields}
                answer = process.post("metrics", body)
            else:
                answer = process.call("PATCH", f"metrics/{self.metric}", fields)
            self.definition = fields
        assert answer.status in (200, 201), answer.raw
        self.revision = int(answer.headers["Telemetry-Revision"])
        self.changes += 1

    def write(self, step: int) -> None:
        """Send a point to the process that made the last change, or to the other one with the required revision."""
        target, required = self.changed_by, {}
        if self.random.random() < 0.5:
            target, required = 1 - target, {"Telemetry_Min_Revision": str(self.revision)}
        value = self.random.choice((5, 500, 5000)) + step / STEPS
        days = self.random.choice((0, 40))
        sent = point(self.metric, value, days * 86_400)
        answer = self.processes[target].call("POST", f"devices/{self.device}/telemetry", sent, **required)
        is_valid = self.definition is None or (
            value <= self.definition["max_value"] and days < self.definition["retention_days"]
        )
        if answer.status != (200 if is_valid else 422):
            self.differences.append((step, sent, self.definition, answer.status, answer.raw))
        if is_valid:
            self.stored.add(value)
        self.writes += 1


def test_interleaved_changes_and_writes_of_two_processes_agree_with_the_acknowledged_changes(
    admin: ApiClient, second_process: ApiClient
):
    clients = [DefinitionClient(number, (admin, second_process)) for number in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        finished = list(pool.map(lambda client: client.run(STEPS // CLIENTS), clients))
    assert [client.differences for client in finished] == [[]] * CLIENTS
    assert sum(client.changes + client.writes for client in finished) == STEPS
    MetricDefinition.objects.all().delete()
    for client in finished:
        now = datetime.now(UTC)
        body = {
            "devices": [client.device],
            "metrics": [client.metric],
            "start_time": (now - timedelta(days=60)).isoformat(),
            "end_time": (now + timedelta(minutes=1)).isoformat(),
            "limit": 10_000,
        }
        points = admin.post("query", body).json["data_points"]
        assert {stored["value"] for stored in points} == client.stored
