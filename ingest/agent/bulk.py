"""Many snapshots as one bulk request, with the metric names that the site gives to the fields of a snapshot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ingest.agent.units import UNITS

MAX_DEPTH = 32  # levels of a nested value that become part of its name, as ingest.wire.snapshot


def bulk_body(snapshots: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return points by device."""
    devices: dict[str, list[dict[str, Any]]] = {}
    for snapshot in snapshots:
        points = devices.setdefault(snapshot["node_id"], [])
        for name, value in metrics_of(snapshot):
            point = {"timestamp": snapshot["timestamp"], "metric_name": name, "value": value}
            if name in UNITS:
                point["unit"] = UNITS[name]
            points.append(point)
    return devices


def count_points(snapshot: dict[str, Any]) -> int:
    return sum(1 for _ in metrics_of(snapshot))


def is_convertible(snapshot: dict[str, Any]) -> bool:
    """Return whether a snapshot has what a bulk request needs. The site words the error of any other."""
    return (
        isinstance(snapshot.get("node_id"), str)
        and isinstance(snapshot.get("timestamp"), str)
        and next(metrics_of(snapshot), None) is not None
    )


def metrics_of(snapshot: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield (metric name, value) of a snapshot, flat or nested."""
    for name, value in snapshot.items():
        if name in ("node_id", "timestamp"):
            continue
        if isinstance(value, dict):
            yield from _flatten(value, "" if name == "metrics" else f"{name}.", 1)
        else:
            yield name, value


def _flatten(values: dict[str, Any], prefix: str, level: int) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and value and level < MAX_DEPTH:
            yield from _flatten(value, f"{prefix}{name}.", level + 1)
        else:
            yield prefix + name, value
