"""Fixtures of alert tests: rules, an evaluator that runs step by step, and a webhook receiver."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from alerts.evaluation.evaluator import Evaluator
from alerts.models import Rule
from alerts.rules import lifecycle
from metrics.storage.connection import dedicated_connection
from telemetry_site.env import Environment
from tests.alerts.receivers import WebhookReceiver, run_receiver
from tests.conftest import ApiClient, point

CPU_RULE_FIELDS = {"name": "High CPU", "metric_name": "cpu", "condition": ">", "threshold_value": 90}


@pytest.fixture
def evaluator(site: None) -> Iterator[Evaluator]:
    """An evaluator; `run(evaluator)` evaluates all stored points."""
    with dedicated_connection() as connection:
        yield Evaluator(connection)


@pytest.fixture
def create_cpu_rule(site: None) -> Callable[..., Rule]:
    """Create a rule on cpu over 90; keyword arguments replace its fields."""

    def make(**fields: Any) -> Rule:
        return lifecycle.create(CPU_RULE_FIELDS | fields, "user:tests")

    return make


@pytest.fixture
def receiver(site: None, settings: Any) -> Iterator[WebhookReceiver]:
    """A web server that webhook channels can reach."""
    settings.ALLOW_PRIVATE_WEBHOOKS = Environment({"X": "127.0.0.0/8"}).networks("X")
    with run_receiver() as receiver:
        yield receiver


def run(evaluator: Evaluator) -> None:
    """Evaluate all stored points, and run the clock checks."""
    evaluator.clock_checks.next_check = 0.0
    while evaluator.step():
        evaluator.clock_checks.next_check = 0.0


def send(
    caller: ApiClient, *values: float | str | bool, metric: str = "cpu", device: str = "boiler", ago: float = 0.0
) -> None:
    """Send values one second apart, the last one `ago` seconds old."""
    count = len(values)
    points = [point(metric, value, ago + count - 1 - number) for number, value in enumerate(values)]
    response = caller.post(f"devices/{device}/telemetry/batch", {"data_points": points})
    assert response.status == 200, response.json
