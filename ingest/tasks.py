"""Celery's way into the verbs of this app. Every task may be run twice at once, and killed at any moment."""

from celery import shared_task
from django.conf import settings

from ingest.collectors.clock import SystemClock
from ingest.collectors.once import measure_once
from ingest.identity import service_tokens, tokens
from ingest.json_endpoints import BODY_LIMIT
from ingest.pipeline import accept
from ingest.rejected.retention import tidy
from ingest.wire.telemetry_json import decode_batch
from metrics.storage.connection import read_connection
from rest.caller import Caller


@shared_task
def tidy_rejected() -> int:
    """Keep the rejected inbox within its bounds. Returns the rows that went."""
    with read_connection() as connection:
        return tidy(connection)


@shared_task
def collect_host(snapshot_id: str, asked_by: str) -> int:
    """Measure this machine and store it under the snapshot's id; returns the points. Run twice it stores once."""
    batch = decode_batch(measure_once(SystemClock()), settings.EMBEDDED.host_device_id(), BODY_LIMIT)
    batch.batch_id = snapshot_id
    return accept(batch, Caller.internal(f"collect (asked by {asked_by})")).accepted


@shared_task
def forget_expired_tokens() -> int:
    """Delete what is remembered of tokens that can be used no more. Returns how many rows."""
    return tokens.forget_expired() + service_tokens.forget_expired()
