"""Store states of deployments as annotations of charts, and read them."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from ingest.collection.batch import build_batch
from ingest.collection.models import Collector
from ingest.collectors.formats.deployment_state import deployment_readings
from ingest.collectors.reading import Deployment
from ingest.pipeline import accept
from metrics.storage.connection import read_connection
from rest.caller import Caller
from rest.names import NAME_LENGTH

MAX_ANNOTATIONS = 10_000  # of a device; the oldest are deleted

_INSERT = """
INSERT INTO ingest_annotation (collector_id, device_id, at, deployment_id, version, state)
SELECT id, %(device_id)s, %(at)s, %(deployment_id)s, %(version)s, %(state)s
FROM ingest_collector WHERE id = %(collector)s
ON CONFLICT (device_id, deployment_id, version, state) DO NOTHING
"""
_TRIM = """
DELETE FROM ingest_annotation WHERE device_id = %(device_id)s AND id NOT IN (
    SELECT id FROM ingest_annotation WHERE device_id = %(device_id)s ORDER BY at DESC, id DESC LIMIT %(limit)s)
"""


def store_deployments(device_id: str, collector: int, deployments: Iterable[Deployment], now: datetime) -> int:
    """Store the states that are new; return their number. A state without a time is stored with `now`."""
    stored = 0
    with read_connection() as connection, connection.transaction():
        for deployment in deployments:
            row = {
                "collector": collector,
                "device_id": device_id,
                "at": deployment.at or now,
                "deployment_id": deployment.deployment_id[:NAME_LENGTH],
                "version": deployment.version[:NAME_LENGTH],
                "state": deployment.state[:NAME_LENGTH],
            }
            stored += connection.execute(_INSERT, row).rowcount
        if stored:
            connection.execute(_TRIM, {"device_id": device_id, "limit": MAX_ANNOTATIONS})
    return stored


def store_webhook(collector: Collector, deployments: Sequence[Deployment], now: datetime) -> int:
    """Store reported states as points and annotations; return how many states are new. Raises RequestRejected."""
    readings = list(deployment_readings(deployments))
    accept(build_batch(readings, collector.device_id, now), Caller.internal(f"collector {collector.name}"))
    return store_deployments(collector.device_id, collector.pk, deployments, now)
