"""Host snapshots of the edge agent: what one machine measured at one moment, flat or nested.

    {"node_id": …, "timestamp": …, "cpu_percent": 45.2, …}                        a metric for each further field
    {"node_id": …, "timestamp": …, "metrics": {"cpu": {"cpu_usage_percent": 45.2}}}   the metric cpu.cpu_usage_percent

`node_id` is the device. Whatever else is in it is a metric too, by the usual rules of values.
"""

from collections.abc import Iterator
from typing import Any

from ingest.wire.batch import Batch, Group, Rejection, RequestRejected
from ingest.wire.rows import Row, batch_of
from ingest.wire.telemetry_json import BATCH_LIMIT
from ingest.wire.times import ACCEPTED, parse_time
from ingest.wire.validate import DEEPEST, BadPoint, check_name, check_value, parse_document

_NAMES = ("node_id", "timestamp")


def decode_snapshot(body: bytes) -> Batch:
    """Raises RequestRejected."""
    document = parse_document(body)
    if not isinstance(document, dict):
        raise RequestRejected("the body must be a JSON object with node_id, timestamp and what was measured")
    device_id, time = _device(document), _time(document)
    rows: list[Row] = []
    rejected: list[Rejection] = []
    for index, (name, value) in enumerate(_metrics(document)):
        if index == BATCH_LIMIT:
            raise _field("metrics", f"more than {BATCH_LIMIT} values: 1 to {BATCH_LIMIT} are accepted", 422)
        try:
            rows.append(Row(device_id, check_name(name, "metric_name"), time, check_value(value), index))
        except BadPoint as bad:
            field = bad.field if bad.field == "metric_name" else name
            rejected.append(Rejection(index, field, bad.detail))
    if not rows and not rejected:
        raise _field("metrics", "nothing was measured: fields beside node_id and timestamp are, at least one")
    batch = batch_of(rows, rejected)
    batch.groups = batch.groups or [Group(device_id, 0, 0)]
    return batch


def _device(document: dict[str, Any]) -> str:
    if "node_id" not in document:
        raise _field("node_id", "the field is missing")
    try:
        return check_name(document["node_id"], "node_id")
    except BadPoint as bad:
        raise _field(bad.field, bad.detail) from None


def _time(document: dict[str, Any]) -> int:
    if "timestamp" not in document:
        raise _field("timestamp", "the field is missing")
    given = document["timestamp"]
    if not isinstance(given, str):
        raise _field("timestamp", f"not a time: {ACCEPTED}")
    try:
        return parse_time(given)
    except ValueError as error:
        raise _field("timestamp", str(error)) from None


def _metrics(document: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    nested = document.get("metrics")
    for name, value in document.items():
        if name in _NAMES:
            continue
        if name == "metrics" and isinstance(nested, dict):
            yield from _flat(nested, "")
        elif isinstance(value, dict):
            yield from _flat(value, f"{name}.")
        else:
            yield name, value


def _flat(values: dict[str, Any], before: str, level: int = 1) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and value and level < DEEPEST:
            yield from _flat(value, f"{before}{name}.", level + 1)
        else:
            yield before + name, value


def _field(field: str, detail: str, status: int = 400) -> RequestRejected:
    return RequestRejected(f"{field}: {detail}", status, [Rejection(0, field, detail)])
