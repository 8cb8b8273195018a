"""Metric definitions that reject points, and the rejected and stored points in the API, for tests."""

from typing import Any

from ingest.rejected.inbox import rejected_inbox
from metrics.models import MetricDefinition
from metrics.storage import series_registry
from tests.conftest import ApiClient

BATCH = "devices/d/telemetry/batch"


def define(name: str = "battery", **fields: Any) -> MetricDefinition:
    definition = MetricDefinition.objects.create(**{"name": name, "data_type": "numeric"} | fields)
    series_registry.refresh_registry()
    return definition


def redefine(name: str = "battery", **changes: Any) -> None:
    definition = MetricDefinition.objects.get(name=name)
    for field, value in changes.items():
        setattr(definition, field, value)
    definition.save()


def rejected(caller: ApiClient, **filters: str) -> list[dict[str, Any]]:
    rejected_inbox().flush()
    query = "&".join(f"{name}={value}" for name, value in filters.items())
    return caller.get(f"rejected?{query}").json["rejected"]


def values(caller: ApiClient, device_id: str = "d", metric: str = "battery") -> list[Any]:
    response = caller.get(f"devices/{device_id}/metrics/{metric}/range?time_range=1h").json
    return [row["value"] for row in response["data_points"]]
