"""Collectors for tests, and steps of the orchestrator."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from ingest.collection import lifecycle
from ingest.collection.loop import CollectionLoop
from ingest.collection.models import Collection, Collector, CollectorState
from metrics.query.latest import read_latest_points
from metrics.storage.connection import dedicated_connection

WAIT = 10.0  # seconds


def create_collector(kind: str = "tcp", configuration: dict[str, Any] | None = None, **fields: Any) -> Collector:
    """Create a collector that is due now."""
    named = {"name": f"{kind} check", "device_id": "boiler", "interval": 10, "deadline": 2} | fields
    collector = lifecycle.create_collector(named | {"kind": kind, "configuration": configuration or {}}, "user:tests")
    make_due(collector)
    return collector


def make_due(collector: Collector, ago: float = 0.0) -> None:
    state = CollectorState.objects.get(collector=collector)
    state.due_at = now() - timedelta(seconds=ago)
    state.save(update_fields=["due_at"])


def now() -> datetime:
    from django.utils import timezone

    return timezone.now()


def run_once(loop: CollectionLoop | None = None) -> list[Collection]:
    """Run the due collections, and return the journal, oldest first."""
    loop = loop or CollectionLoop()
    with dedicated_connection() as connection:
        loop.step(connection)
    for running in list(loop._running):
        running.join(WAIT)
        assert not running.is_alive()
    return list(Collection.objects.order_by("id"))


def wait_for(condition: Callable[[], Any], timeout: float = WAIT) -> Any:
    """Return the first true result of a condition."""
    ends_at = time.monotonic() + timeout
    while not (result := condition()):
        assert time.monotonic() < ends_at, "the condition did not become true"
        time.sleep(0.02)
    return result


def latest(device_id: str = "boiler") -> dict[str, Any]:
    """Return the newest value of each metric of a device."""
    return {point.metric_name: point.value for point in read_latest_points([device_id], None).points}
