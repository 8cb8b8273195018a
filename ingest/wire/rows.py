"""Points that were judged one by one, as the columns of a Batch: for protocols that are not sent by the million."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ingest.wire.batch import Batch, Contexts, Group, Rejection


@dataclass(frozen=True, slots=True)
class Row:
    """A good point; `index` says where it stood in its request."""

    device_id: str
    metric_name: str
    time: int  # µs since 1970, UTC
    value: Any
    index: int
    tags: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None


def batch_of(rows: Iterable[Row], rejected: list[Rejection]) -> Batch:
    """Points of any devices in any order; those of one device stay in the order in which they came."""
    ordered = sorted(rows, key=lambda row: row.device_id)
    groups: list[Group] = []
    for place, row in enumerate(ordered):
        if groups and groups[-1].device_id == row.device_id:
            groups[-1] = groups[-1]._replace(stop=place + 1)
        else:
            groups.append(Group(row.device_id, place, place + 1))
    contexts = Contexts()
    index = [contexts.add(None, row.tags, row.metadata) for row in ordered]
    values: Any = [row.value for row in ordered]
    if all(type(value) is float for value in values):
        values = np.array(values, np.float64)
    return Batch(
        groups,
        [row.metric_name for row in ordered],
        np.array([row.time for row in ordered], np.int64),
        values,
        contexts.column(index),
        contexts.entries,
        np.array([row.index for row in ordered], np.int64),
        rejected,
    )
