"""A change in one web process applies in the others within a second."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import uvicorn
from django.db import connection
from django.utils import timezone

from ingest.models import ApiKey
from tests.conftest import ApiClient, point
from tests.forked_process import ForkedProcess
from tests.telemetry_site.site_process import free_port, wait_until

pytestmark = pytest.mark.slow

MAX_DELAY = 1.0  # seconds


def serve(port: int) -> None:
    """Run a web process until it is killed."""
    from telemetry_site.asgi import application

    uvicorn.run(application, port=port, log_level="warning", lifespan="on")


@pytest.fixture
def second_process(admin: ApiClient) -> Iterator[ApiClient]:
    """The same admin client at a second web process."""
    parameters = connection.settings_dict
    database = {
        name: str(parameters[name]) for name in ("NAME", "USER", "PASSWORD", "HOST", "PORT") if parameters.get(name)
    }
    caller = ApiClient(free_port(), admin.headers)
    running = ForkedProcess(database, serve, caller.port)
    try:
        wait_until(lambda: _is_up(caller), 30, "the second process responds")
        yield caller
    finally:
        running.kill()


def _is_up(caller: ApiClient) -> bool:
    try:
        return caller.get("/health").status == 200
    except OSError:
        return False


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
