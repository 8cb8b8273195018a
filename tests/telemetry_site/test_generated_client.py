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
def package_name(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Generate the client; yield the name of its package."""
    folder = tmp_path_factory.mktemp("client")
    (folder / "config.yaml").write_text("post_hooks: []\nliteral_enums: true\n")
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--fail-on-warning", "--meta", "none"]
    options = ["--path", SCHEMA, "--config", folder / "config.yaml", "--output-path", folder / "generated_client"]
    completed = subprocess.run([*command, *options], capture_output=True, text=True, timeout=120, check=False)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    sys.path.insert(0, str(folder))
    yield "generated_client"
    sys.path.remove(str(folder))


class GeneratedClient:
    """Calls operations of the generated client by name."""

    def __init__(self, package: str, caller: ApiClient) -> None:
        self.package = package
        self.models: Any = import_module(f"{package}.models")
        self.client = import_module(package).AuthenticatedClient(
            f"http://127.0.0.1:{caller.port}", caller.headers["X-Api-Key"], raise_on_unexpected_status=True
        )

    def __call__(self, chapter: str, operation: str, *names: str, **arguments: Any) -> Any:
        operation_module: Any = import_module(f"{self.package}.api.{chapter}.{operation}")
        return operation_module.sync(*names, client=self.client, **arguments)


@pytest.fixture
def call_operation(package_name: str, admin: ApiClient) -> Iterator[GeneratedClient]:
    call_operation = GeneratedClient(package_name, admin)
    with call_operation.client:
        yield call_operation


def test_generated_client_defines_a_metric_and_sends_and_queries_points(call_operation: GeneratedClient):
    models, now = call_operation.models, datetime.now(UTC).replace(microsecond=0)

    definition = models.MetricDefinitionRequest(
        name="battery_level", data_type="numeric", unit="percent", max_value=100.0
    )
    created = call_operation("metric_definitions", "create_metric", body=definition)
    assert isinstance(created, models.MetricDefinition)
    assert (created.data_type, created.unit, created.max_value, created.retention_days) == (
        "numeric",
        "percent",
        100.0,
        90,
    )

    series_registry.refresh_registry()  # otherwise it applies within a second

    points = [
        models.PointRequest(timestamp=now - timedelta(minutes=index), metric_name="battery_level", value=value)
        for index, value in enumerate((90.0, 80.0, 101.0))
    ]
    receipt = call_operation("ingestion", "ingest_batch", "device_001", body=models.BatchRequest(data_points=points))
    assert isinstance(receipt, models.BatchReceipt)
    assert (receipt.ingested_count, receipt.failed_count, receipt.errors[0].field) == (2, 1, "value")

    newest = call_operation("queries", "get_latest", "device_001", "battery_level")
    assert (newest.value, newest.unit, newest.timestamp) == (90.0, "percent", now)

    query = models.QueryRequest(
        metrics=["battery_level"], start_time=now - timedelta(hours=1), end_time=now + timedelta(hours=1),
        aggregation="avg",
    )  # fmt: skip
    result = call_operation("queries", "query_points", body=query)
    assert isinstance(result, models.QueryAnswer)
    assert [(index.value, index.count) for index in result.data_points] == [(85.0, 2)]

    columns = call_operation("queries", "get_range", "device_001", "battery_level", columns=True)
    assert isinstance(columns, models.RangeColumns)
    assert columns.values == [80.0, 90.0]

    [listed] = call_operation("metric_definitions", "list_metrics", data_type="numeric").metrics
    assert listed == created
    assert call_operation("metric_definitions", "delete_metric", "battery_level").success is True


def test_generated_client_gets_errors_as_problems(call_operation: GeneratedClient):
    unknown = call_operation("queries", "get_latest", "device_001", "temperature")
    assert isinstance(unknown, call_operation.models.Problem)
    assert unknown.status == 404 and "temperature" in unknown.detail

    reversed_range = call_operation.models.QueryRequest(
        metrics=["temperature"], start_time=datetime(2026, 1, 2, tzinfo=UTC), end_time=datetime(2026, 1, 1, tzinfo=UTC)
    )
    problem = call_operation("queries", "query_points", body=reversed_range)
    assert (problem.status, problem.errors[0].field) == (422, "start_time")
