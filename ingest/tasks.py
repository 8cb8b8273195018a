"""Celery tasks of this app. Each may run twice at the same time and may be killed at any time."""

from celery import shared_task
from django.conf import settings

from ingest.batch_ids import is_batch_stored
from ingest.collection.retention import apply_retention as trim_journal
from ingest.collectors.clock import SystemClock
from ingest.collectors.measure_once import measure_once
from ingest.identity import service_tokens, tokens
from ingest.json_endpoints import MAX_BODY_SIZE
from ingest.pipeline import accept
from ingest.rejected.retention import apply_retention
from ingest.wire.telemetry_json import decode_batch
from metrics.storage.connection import read_connection
from rest.caller import Caller


@shared_task
def tidy_rejected() -> int:
    """Apply the retention of the rejected inbox; return the number of deleted rows."""
    with read_connection() as connection:
        return apply_retention(connection)


@shared_task
def collect_host(snapshot_id: str, asked_by: str) -> int:
    """Store a snapshot of this machine; return the number of points. A second run with the same id stores nothing."""
    device_id = settings.EMBEDDED.host_device_id()
    if is_batch_stored(device_id, snapshot_id):
        return 0
    batch = decode_batch(measure_once(SystemClock()), device_id, MAX_BODY_SIZE)
    batch.batch_id = snapshot_id
    return accept(batch, Caller.internal(f"collect (requested by {asked_by})")).accepted


@shared_task
def trim_collections() -> int:
    """Delete old journal rows of collectors; return the number of deleted rows."""
    with read_connection() as connection:
        return trim_journal(connection)


@shared_task
def forget_expired_tokens() -> int:
    """Delete the records of expired tokens; return the number of deleted rows."""
    return tokens.delete_expired() + service_tokens.delete_expired()
