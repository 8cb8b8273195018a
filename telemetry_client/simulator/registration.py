"""Register a fleet at a site: metric definitions, device groups by place, devices with type, position and metadata."""

import json
from typing import Any

from telemetry_client.simulator.device_types import DEVICE_TYPES, Metric, ValueKind
from telemetry_client.simulator.fleet import Device, Fleet
from telemetry_client.simulator.site_connection import SiteConnection, unexpected

_DATA_TYPES = {ValueKind.BOOLEAN: "boolean", ValueKind.TEXT: "string"}
_EXISTS = (400, 409)  # statuses for a name that is taken


def register_fleet(fleet: Fleet, connection: SiteConnection) -> int:
    """Create the objects that do not exist yet; return the number of new objects. Existing ones are left as they are.

    The key needs scope admin. Raises SimulatorError.
    """
    types = [device_type for device_type in DEVICE_TYPES if device_type.name in fleet.types]
    metrics = {metric.name: metric for device_type in types for metric in device_type.metrics}
    places = sorted({device.place.name for device in fleet.devices})
    created = sum(_create(connection, "metrics", "name", definition_of(metric)) for metric in metrics.values())
    created += sum(_create(connection, "groups", "name", {"name": place}) for place in places)
    return created + sum(
        _create(connection, "devices", "device_id", device_fields(device) | {"groups": [device.place.name]})
        for device in fleet.devices
    )


def definition_of(metric: Metric) -> dict[str, Any]:
    """Return the fields of the metric definition."""
    return {
        "name": metric.name,
        "description": metric.description,
        "data_type": _DATA_TYPES.get(metric.kind, "numeric"),
        "metric_type": "counter" if metric.kind is ValueKind.COUNTER else "gauge",
        "unit": metric.unit,
        "min_value": metric.low,
        "max_value": metric.high,
    }


def device_fields(device: Device) -> dict[str, Any]:
    """Return the fields of a device, without groups."""
    latitude, longitude = device.position
    return {
        "device_id": device.device_id,
        "name": device.name,
        "device_type": device.type.name,
        "description": "Simulated device",
        "location": f"{device.place.name}, {device.place.city}",
        "latitude": latitude,
        "longitude": longitude,
        "expected_interval": max(device.interval // 1000, 1),
        "tags": {"site": device.place.name, "line": f"line {1 + device.number % 3}"},
        "metadata": device.metadata,
    }


def _create(connection: SiteConnection, path: str, id_field: str, fields: dict[str, Any]) -> bool:
    """Return whether an object is new. Raises SimulatorError for any other error than that it exists."""
    status, document = connection.post(path, json.dumps(fields).encode())
    if status == 201:
        return True
    errors = document.get("errors") or [{}]
    if status in _EXISTS and all(error.get("field") == id_field for error in errors):
        return False
    raise unexpected(connection, status, document)
