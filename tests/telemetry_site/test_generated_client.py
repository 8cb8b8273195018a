"""A client generated from the OpenAPI schema can send and read typed data."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from metrics.storage import series_registry
from tests.conftest import ApiClient

pytestmark = pytest.mark.slow

SCHEMA = Path(settings.BASE_DIR) / "docs" / "openapi.yaml"


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of the package that was generated, ready to be imported."""
    folder = tmp_path_factory.mktemp("client")
    (folder / "config.yaml").write_text("post_hooks: []\nliteral_enums: true\n")
    tool = [sys.executable, "-m", "openapi_python_client", "generate", "--fail-on-warning", "--meta", "none"]
    where = ["--path", SCHEMA, "--config", folder / "config.yaml", "--output-path", folder / "generated_client"]
    done = subprocess.run([*tool, *where], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    sys.path.insert(0, str(folder))
    yield "generated_client"
    sys.path.remove(str(folder))


class Generated:
    """Somebody who uses the generated client, and finds operations and models by their names."""

    def __init__(self, package: str, caller: ApiClient) -> None:
        self.package = package
        self.models: Any = import_module(f"{package}.models")
        self.client = import_module(package).AuthenticatedClient(
            f"http://127.0.0.1:{caller.port}", caller.headers["X-Api-Key"], raise_on_unexpected_status=True
        )

    def __call__(self, chapter: str, operation: str, *names: str, **given: Any) -> Any:
        found: Any = import_module(f"{self.package}.api.{chapter}.{operation}")
        return found.sync(*names, client=self.client, **given)


@pytest.fixture
def use(generated: str, admin: ApiClient) -> Iterator[Generated]:
    use = Generated(generated, admin)
    with use.client:
        yield use


def test_a_generated_client_defines_a_metric_sends_measurements_and_asks_for_them(use: Generated):
    models, now = use.models, datetime.now(UTC).replace(microsecond=0)

    definition = models.MetricDefinitionRequest(
        name="battery_level", data_type="numeric", unit="percent", max_value=100.0
    )
    made = use("metric_definitions", "create_metric", body=definition)
    assert isinstance(made, models.MetricDefinition)
    assert (made.data_type, made.unit, made.max_value, made.retention_days) == ("numeric", "percent", 100.0, 90)

    series_registry.refresh_registry()  # else within a second

    points = [
        models.PointRequest(timestamp=now - timedelta(minutes=one), metric_name="battery_level", value=value)
        for one, value in enumerate((90.0, 80.0, 101.0))
    ]
    receipt = use("ingestion", "ingest_batch", "device_001", body=models.BatchRequest(data_points=points))
    assert isinstance(receipt, models.BatchReceipt)
    assert (receipt.ingested_count, receipt.failed_count, receipt.errors[0].field) == (2, 1, "value")

    newest = use("queries", "get_latest", "device_001", "battery_level")
    assert (newest.value, newest.unit, newest.timestamp) == (90.0, "percent", now)

    question = models.QueryRequest(
        metrics=["battery_level"], start_time=now - timedelta(hours=1), end_time=now + timedelta(hours=1),
        aggregation="avg",
    )  # fmt: skip
    answer = use("queries", "query_points", body=question)
    assert isinstance(answer, models.QueryAnswer)
    assert [(one.value, one.count) for one in answer.data_points] == [(85.0, 2)]

    columns = use("queries", "get_range", "device_001", "battery_level", columns=True)
    assert isinstance(columns, models.RangeColumns)
    assert columns.values == [80.0, 90.0]

    [listed] = use("metric_definitions", "list_metrics", data_type="numeric").metrics
    assert listed == made
    assert use("metric_definitions", "delete_metric", "battery_level").success is True


def test_generated_client_gets_errors_as_problems(use: Generated):
    unknown = use("queries", "get_latest", "device_001", "temperature")
    assert isinstance(unknown, use.models.Problem)
    assert unknown.status == 404 and "temperature" in unknown.detail

    backwards = use.models.QueryRequest(
        metrics=["temperature"], start_time=datetime(2026, 1, 2, tzinfo=UTC), end_time=datetime(2026, 1, 1, tzinfo=UTC)
    )
    refused = use("queries", "query_points", body=backwards)
    assert (refused.status, refused.errors[0].field) == (422, "start_time")
