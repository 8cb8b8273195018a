"""Readings as a batch of the ingest pipeline."""

from collections.abc import Sequence
from datetime import datetime

from ingest.collectors.reading import Reading
from ingest.wire.batch import Batch, Rejection
from ingest.wire.decoded_points import DecodedPoint, batch_from_points
from ingest.wire.validate import InvalidPoint, check_name, check_value
from metrics.storage.units import to_microseconds


def build_batch(readings: Sequence[Reading], device_id: str, started_at: datetime) -> Batch:
    """Return readings as a batch. Those with an invalid name or value are rejected in it."""
    points: list[DecodedPoint] = []
    rejected: list[Rejection] = []
    start = to_microseconds(started_at)
    for index, reading in enumerate(readings):
        device = reading.device_id or device_id
        try:
            point = DecodedPoint(
                check_name(device, "device_id"),
                check_name(reading.metric, "metric_name"),
                start if reading.time is None else reading.time,
                check_value(float(reading.value) if type(reading.value) is int else reading.value),
                index,
                reading.tags,
                unit=reading.unit,
            )
        except InvalidPoint as error:
            rejected.append(Rejection(index, error.field, error.detail, device))
        else:
            points.append(point)
    return batch_from_points(points, rejected)
