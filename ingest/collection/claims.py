"""Claim due collectors, so that each is collected by one worker at a time, and record the results.

A claim is one statement: rows that another worker is claiming are skipped, and a claimed collector has a lease. The
collector of a worker that was killed is due again when its lease ends. All times are those of the database.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ingest.collection.models import MAX_ERROR_LENGTH, new_snapshot_id
from ingest.collectors.schedule import next_due, offset_of
from metrics.storage.connection import Connection

LEASE_MARGIN = 10  # seconds of a lease beyond the deadline: for storing the points

_CLAIM = """
WITH due AS (
    SELECT s.collector_id, s.due_at, s.requested_snapshot_id, s.requested_by,
        c.collector_id AS public_id, c.name, c.kind, c.device_id, c.configuration, c.encrypted_secrets,
        c.metric_prefix, c."interval", c.jitter, c.deadline
    FROM ingest_collectorstate s JOIN ingest_collector c ON c.id = s.collector_id
    WHERE ((c.enabled AND s.due_at <= clock_timestamp()) OR s.requested_snapshot_id <> '')
        AND (s.leased_until IS NULL OR s.leased_until <= clock_timestamp())
    ORDER BY s.due_at LIMIT %(limit)s FOR UPDATE OF s SKIP LOCKED
)
UPDATE ingest_collectorstate s
SET lease = %(worker)s || substr(md5(random()::text), 1, 8),
    leased_until = clock_timestamp() + make_interval(secs => due.deadline + %(margin)s)
FROM due WHERE s.collector_id = due.collector_id
RETURNING s.collector_id, s.lease, clock_timestamp(), due.due_at, due.requested_snapshot_id, due.requested_by,
    due.public_id, due.name, due.kind, due.device_id, due.configuration, due.encrypted_secrets, due.metric_prefix,
    due."interval", due.jitter, due.deadline
"""
_FAILING_BESIDES = """
SELECT count(*) FROM ingest_collector c JOIN ingest_collectorstate s ON s.collector_id = c.id
WHERE c.device_id = %s AND c.id <> %s AND c.enabled AND s.error <> ''
"""
_HOLDS_LEASE = "SELECT 1 FROM ingest_collectorstate WHERE collector_id = %s AND lease = %s"
_RELEASE = "UPDATE ingest_collectorstate SET lease = '', leased_until = NULL WHERE collector_id = %s AND lease = %s"
_FINISH = """
WITH result AS (
    SELECT %(snapshot_id)s::text AS snapshot_id, %(started_at)s::timestamptz AS started_at, %(error)s::text AS error,
        %(late_ms)s::float8 AS late_ms, %(duration_ms)s::float8 AS duration_ms, %(points)s::int AS points,
        %(rejected)s::int AS rejected
), finished AS (
    UPDATE ingest_collectorstate s
    SET due_at = CASE WHEN s.due_at = %(claimed_due_at)s THEN %(due_at)s ELSE s.due_at END,
        lease = '', leased_until = NULL, snapshot_id = r.snapshot_id, started_at = r.started_at, late_ms = r.late_ms,
        duration_ms = r.duration_ms, points = r.points, rejected = r.rejected, error = r.error,
        succeeded_at = CASE WHEN r.error = '' THEN r.started_at ELSE s.succeeded_at END,
        failures = CASE WHEN r.error = '' THEN 0 ELSE s.failures + 1 END,
        requested_by = CASE WHEN s.requested_snapshot_id = r.snapshot_id THEN '' ELSE s.requested_by END,
        requested_snapshot_id = coalesce(nullif(s.requested_snapshot_id, r.snapshot_id), '')
    FROM result r WHERE s.collector_id = %(collector)s AND s.lease = %(lease)s
    RETURNING s.collector_id
)
INSERT INTO ingest_collection (snapshot_id, collector_id, device_id, started_at, late_ms, duration_ms, points,
    rejected, checksum, error, requested_by)
SELECT r.snapshot_id, f.collector_id, %(device_id)s, r.started_at, r.late_ms, r.duration_ms, r.points, r.rejected,
    %(checksum)s, r.error, %(requested_by)s
FROM finished f, result r ON CONFLICT (snapshot_id) DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """A collector that this worker collects now.

    started_at   time of the claim
    late         seconds from the due time to the claim; 0 for requested collections
    """

    collector: int
    lease: str
    started_at: datetime
    due_at: datetime
    snapshot_id: str
    requested_by: str
    collector_id: str
    name: str
    kind: str
    device_id: str
    configuration: dict[str, Any]
    encrypted_secrets: str
    metric_prefix: str
    interval: int
    jitter: int | None
    deadline: int

    @property
    def late(self) -> float:
        return 0.0 if self.requested_by else max(0.0, (self.started_at - self.due_at).total_seconds())


@dataclass(frozen=True, slots=True)
class CollectionResult:
    """The result of a collection, as the journal has it."""

    duration_ms: float
    points: int = 0
    rejected: int = 0
    checksum: str = ""
    error: str = ""


def claim_due(connection: Connection, worker: str, limit: int) -> Sequence[Claim]:
    """Claim up to `limit` due or requested collectors. `worker` is a text of up to 16 characters."""
    rows = connection.execute(_CLAIM, {"limit": limit, "worker": worker, "margin": LEASE_MARGIN}).fetchall()
    return [_claim(list(row)) for row in rows]


def _claim(row: list[Any]) -> Claim:
    row[4] = row[4] or new_snapshot_id()  # requested_snapshot_id
    return Claim(*row)


def count_failing_besides(connection: Connection, claim: Claim) -> int:
    """Return how many other enabled collectors of the device failed at last."""
    row = connection.execute(_FAILING_BESIDES, (claim.device_id, claim.collector)).fetchone()
    return int(row[0]) if row else 0


def holds_lease(connection: Connection, claim: Claim) -> bool:
    """Return whether no other worker has taken the collector over, and it was not deleted."""
    return connection.execute(_HOLDS_LEASE, (claim.collector, claim.lease)).fetchone() is not None


def release(connection: Connection, claim: Claim) -> None:
    """Release a collector that is still due, so that another worker collects at once."""
    connection.execute(_RELEASE, (claim.collector, claim.lease))


def finish(connection: Connection, claim: Claim, result: CollectionResult, now: datetime) -> None:
    """Release the collector until its next due time, and write the journal. Does nothing without the lease."""
    offset = offset_of(claim.collector_id, claim.interval if claim.jitter is None else claim.jitter)
    due_at = next_due(now, claim.interval, offset)
    values = {
        "collector": claim.collector,
        "lease": claim.lease,
        "due_at": due_at,
        "claimed_due_at": claim.due_at,  # another one since then is that of a new interval
        "snapshot_id": claim.snapshot_id,
        "device_id": claim.device_id,
        "started_at": claim.started_at,
        "late_ms": claim.late * 1000,
        "duration_ms": result.duration_ms,
        "points": result.points,
        "rejected": result.rejected,
        "checksum": result.checksum,
        "error": result.error[:MAX_ERROR_LENGTH],
        "requested_by": claim.requested_by,
    }
    connection.execute(_FINISH, values)
