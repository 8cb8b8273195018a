"""Host snapshots of the edge agent: the measurements of one machine at one time, flat or nested.

    {"node_id": …, "timestamp": …, "cpu_percent": 45.2, …}                        a metric for each further field
    {"node_id": …, "timestamp": …, "metrics": {"cpu": {"cpu_usage_percent": 45.2}}}   the metric cpu.cpu_usage_percent

`node_id` is the device. All other fields are metrics; those that every agent sends get their unit.
"""

from collections.abc import Iterator
from typing import Any

from ingest.agent.units import UNITS
from ingest.wire.batch import Batch, Group, Rejection, RequestRejected
from ingest.wire.decoded_points import DecodedPoint, batch_from_points
from ingest.wire.telemetry_json import MAX_BATCH_POINTS, invalid_field
from ingest.wire.validate import MAX_DEPTH, InvalidPoint, check_name, check_timestamp, check_value, parse_document

_NAMES = ("node_id", "timestamp")


def decode_snapshot(body: bytes) -> Batch:
    """Decode a snapshot. Raises RequestRejected."""
    document = parse_document(body)
    if not isinstance(document, dict):
        raise RequestRejected("the body must be a JSON object with node_id, timestamp and measured values")
    device_id, time = _device_and_time(document)
    points: list[DecodedPoint] = []
    rejected: list[Rejection] = []
    for index, (name, value) in enumerate(_metrics(document)):
        if index == MAX_BATCH_POINTS:
            raise invalid_field(
                "metrics", f"more than {MAX_BATCH_POINTS} values: 1 to {MAX_BATCH_POINTS} are accepted", 422
            )
        try:
            checked = check_name(name, "metric_name"), time, check_value(value), index
            points.append(DecodedPoint(device_id, *checked, unit=UNITS.get(name)))
        except InvalidPoint as error:
            field = error.field if error.field == "metric_name" else name
            rejected.append(Rejection(index, field, error.detail))
    if not points and not rejected:
        raise invalid_field("metrics", "no values: at least one field besides node_id and timestamp is required")
    batch = batch_from_points(points, rejected)
    batch.groups = batch.groups or [Group(device_id, 0, 0)]
    return batch


def _device_and_time(document: dict[str, Any]) -> tuple[str, int]:
    for name in _NAMES:
        if name not in document:
            raise invalid_field(name, "the field is missing")
    try:
        return check_name(document["node_id"], "node_id"), check_timestamp(document["timestamp"])
    except InvalidPoint as error:
        raise invalid_field(error.field, error.detail) from None


def _metrics(document: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    nested = document.get("metrics")
    for name, value in document.items():
        if name in _NAMES:
            continue
        if name == "metrics" and isinstance(nested, dict):
            yield from _flatten(nested, "")
        elif isinstance(value, dict):
            yield from _flatten(value, f"{name}.")
        else:
            yield name, value


def _flatten(values: dict[str, Any], prefix: str, level: int = 1) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and value and level < MAX_DEPTH:
            yield from _flatten(value, f"{prefix}{name}.", level + 1)
        else:
            yield prefix + name, value
