"""Events of the real-time document: `{timestamp, source, type, value, status}`, one or a list of them.

`source` is the device, `type` the metric, and `status` a tag of the point, by which it can be filtered and grouped.
All other fields become metadata. Times are seconds since 1970 or RFC 3339.
"""

from typing import Any

from ingest.wire.batch import Batch, Rejection, RequestRejected
from ingest.wire.decoded_points import DecodedPoint, batch_from_points
from ingest.wire.telemetry_json import MAX_BATCH_POINTS
from ingest.wire.validate import InvalidPoint, check_json, check_name, check_timestamp, check_value, parse_document

_FIELDS = ("timestamp", "source", "type", "value")
_MAX_SECONDS = 253_402_300_800  # seconds since 1970 of the start of the year 10000
_ACCEPTED = "seconds since 1970 as a number are accepted, or an RFC 3339 time with an offset"


def decode_events(body: bytes) -> Batch:
    """Decode one event or a list of events. Raises RequestRejected."""
    document = parse_document(body)
    events = document if isinstance(document, list) else [document]
    if not 0 < len(events) <= MAX_BATCH_POINTS:
        raise RequestRejected(f"{len(events)} events: 1 to {MAX_BATCH_POINTS} are accepted", 422)
    points: list[DecodedPoint] = []
    rejected: list[Rejection] = []
    for index, event in enumerate(events):
        try:
            points.append(_decode_event(event, index))
        except InvalidPoint as error:
            rejected.append(Rejection(index, error.field, error.detail))
    return batch_from_points(points, rejected)


def _decode_event(event: Any, index: int) -> DecodedPoint:
    if not isinstance(event, dict):
        raise InvalidPoint("event", "an object with timestamp, source, type, value and status is accepted")
    for name in _FIELDS:
        if name not in event:
            raise InvalidPoint(name, "the field is missing")
    status = event.get("status")
    check_json(status, "status")
    metadata = {name: value for name, value in event.items() if name not in (*_FIELDS, "status")}
    check_json(metadata, "metadata")
    return DecodedPoint(
        check_name(event["source"], "source"),
        check_name(event["type"], "type"),
        _check_time(event["timestamp"]),
        check_value(event["value"]),
        index,
        None if status is None else {"status": status},
        metadata or None,
    )


def _check_time(timestamp: Any) -> int:
    if isinstance(timestamp, int | float) and not isinstance(timestamp, bool) and abs(timestamp) < _MAX_SECONDS:
        return round(timestamp * 1_000_000)
    return check_timestamp(timestamp, _ACCEPTED)
