"""Values of series as live streams carry them, and their JSON. Pure."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from metrics.storage.units import to_datetime

MAX_VALUES = 2_000  # per frame
_encode = msgspec.json.Encoder().encode


class SeriesValue(msgspec.Struct, frozen=True):
    """A value of a series in a stream.

    timestamp  µs since 1970, UTC
    skipped    number of values of the series since its previous value in the stream, which were not sent
    late       whether the value is not newer than one that was sent before
    """

    series_id: int
    device_id: str
    metric_name: str
    timestamp: int
    value: Any
    unit: str | None
    skipped: int = 0
    late: bool = False


class Value(msgspec.Struct, omit_defaults=True):
    """A value in a frame."""

    device_id: str
    metric_name: str
    timestamp: datetime
    value: Any
    unit: str | None
    late: bool = False
    skipped: int = 0


class _Points(msgspec.Struct, tag_field="type", tag="points"):
    position: str | None
    values: list[Value]


def to_value(value: SeriesValue, skipped: int | None = None) -> Value:
    """Return a value for a frame; `skipped` replaces the number of skipped values of the feed."""
    return Value(
        value.device_id,
        value.metric_name,
        to_datetime(value.timestamp),
        value.value,
        value.unit,
        value.late,
        value.skipped if skipped is None else skipped,
    )


def encode_points(values: Iterable[SeriesValue], position: str | None) -> bytes:
    """Return the frame of new values and the position of the stream after them; None before the last of several."""
    return _encode(_Points(position, [to_value(value) for value in values]))
