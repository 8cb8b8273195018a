"""Rules, an evaluator that is stepped by hand, those who send to it, and who is told."""

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

NEWEST = {"name": "High CPU", "metric_name": "cpu", "condition": ">", "threshold_value": 90}


@pytest.fixture
def evaluator(site: None) -> Iterator[Evaluator]:
    """The only one; `run(evaluator)` lets it judge all that is stored."""
    with dedicated_connection() as connection:
        yield Evaluator(connection)


@pytest.fixture
def create_cpu_rule(site: None) -> Callable[..., Rule]:
    """Create a rule on cpu over 90; keyword arguments replace its fields."""

    def make(**fields: Any) -> Rule:
        return lifecycle.create(NEWEST | fields, "user:tests")

    return make


@pytest.fixture
def receiver(site: None, settings: Any) -> Iterator[WebhookReceiver]:
    """A web server that channels may reach."""
    settings.ALLOW_PRIVATE_WEBHOOKS = Environment({"X": "127.0.0.0/8"}).networks("X")
    with run_receiver() as found:
        yield found


def run(evaluator: Evaluator) -> None:
    """Let an evaluator judge all that is stored, and look at the clock."""
    evaluator.clock_checks.next_check = 0.0
    while evaluator.step():
        evaluator.clock_checks.next_check = 0.0


def send(
    caller: ApiClient, *values: float | str | bool, metric: str = "cpu", device: str = "boiler", ago: float = 0.0
) -> None:
    """Values a second apart, the last of them `ago` seconds old."""
    many = len(values)
    points = [point(metric, value, ago + many - 1 - at) for at, value in enumerate(values)]
    answer = caller.post(f"devices/{device}/telemetry/batch", {"data_points": points})
    assert answer.status == 200, answer.json
