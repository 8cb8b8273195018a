"""Events of the real-time document: `{timestamp, source, type, value, status}`, one or a list of them.

`source` is the device, `type` the metric, and `status` a tag of the point, so that it can be filtered and grouped by.
Any further field goes into the point's metadata. Times are seconds since 1970, or RFC 3339 like everywhere else.
"""

from typing import Any

from ingest.wire.batch import Batch, Rejection, RequestRejected
from ingest.wire.rows import Row, batch_of
from ingest.wire.telemetry_json import BATCH_LIMIT
from ingest.wire.times import parse_time
from ingest.wire.validate import BadPoint, check_json, check_name, check_value, parse_document

_FIELDS = ("timestamp", "source", "type", "value")
_LATEST = 253_402_300_800  # seconds since 1970 at which the year 10000 begins
_TIMES = "seconds since 1970 as a number are accepted, or an RFC 3339 time with its offset"


def decode_events(body: bytes) -> Batch:
    """Raises RequestRejected."""
    document = parse_document(body)
    events = document if isinstance(document, list) else [document]
    if not 0 < len(events) <= BATCH_LIMIT:
        raise RequestRejected(f"{len(events)} events: 1 to {BATCH_LIMIT} are accepted", 422)
    rows: list[Row] = []
    rejected: list[Rejection] = []
    for index, event in enumerate(events):
        try:
            rows.append(_judge(event, index))
        except BadPoint as bad:
            rejected.append(Rejection(index, bad.field, bad.detail))
    return batch_of(rows, rejected)


def _judge(event: Any, index: int) -> Row:
    if not isinstance(event, dict):
        raise BadPoint("event", "an object with timestamp, source, type, value and status is accepted")
    for name in _FIELDS:
        if name not in event:
            raise BadPoint(name, "the field is missing")
    status = event.get("status")
    check_json(status, "status")
    metadata = {name: value for name, value in event.items() if name not in (*_FIELDS, "status")}
    check_json(metadata, "metadata")
    return Row(
        check_name(event["source"], "source"),
        check_name(event["type"], "type"),
        _time(event["timestamp"]),
        check_value(event["value"]),
        index,
        None if status is None else {"status": status},
        metadata or None,
    )


def _time(given: Any) -> int:
    if isinstance(given, str):
        try:
            return parse_time(given)
        except ValueError as error:
            raise BadPoint("timestamp", f"{str(error).partition(':')[0]}: {_TIMES}") from None
    if isinstance(given, bool) or not isinstance(given, int | float) or not abs(given) < _LATEST:
        raise BadPoint("timestamp", f"not a time: {_TIMES}")
    return round(given * 1_000_000)
