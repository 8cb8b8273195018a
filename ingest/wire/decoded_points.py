"""Points that were decoded one by one, as the columns of a Batch: for protocols with few points per request."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ingest.wire.batch import Batch, Contexts, Group, Rejection


@dataclass(frozen=True, slots=True)
class DecodedPoint:
    """A valid point; `index` is its position in the request."""

    device_id: str
    metric_name: str
    time: int  # µs since 1970, UTC
    value: Any
    index: int
    tags: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    unit: str | None = None


def batch_from_points(points: Iterable[DecodedPoint], rejected: list[Rejection]) -> Batch:
    """Return points of any devices as a Batch; the points of a device keep their order."""
    ordered = sorted(points, key=lambda point: point.device_id)
    groups: list[Group] = []
    for position, point in enumerate(ordered):
        if groups and groups[-1].device_id == point.device_id:
            groups[-1] = groups[-1]._replace(stop=position + 1)
        else:
            groups.append(Group(point.device_id, position, position + 1))
    contexts = Contexts()
    indices = [contexts.add(point.unit, point.tags, point.metadata) for point in ordered]
    values: Any = [point.value for point in ordered]
    if all(type(value) is float for value in values):
        values = np.array(values, np.float64)
    return Batch(
        groups,
        [point.metric_name for point in ordered],
        np.array([point.time for point in ordered], np.int64),
        values,
        contexts.column(indices),
        contexts.entries,
        np.array([point.index for point in ordered], np.int64),
        rejected,
    )
