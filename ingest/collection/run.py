"""Run one collection: collect, store the readings as one batch, and describe the result."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from ingest.collection import encryption
from ingest.collection.annotations import store_deployments
from ingest.collection.batch import build_batch
from ingest.collection.claims import Claim, CollectionResult
from ingest.collection.kinds import KINDS
from ingest.collection.kinds.kind import CollectionJob, Kind
from ingest.collectors.reading import CollectFailed, Deployment, Reading
from ingest.pipeline import accept
from ingest.wire.batch import Rejection, RequestRejected
from metrics.storage.errors import StorageError
from rest.caller import Caller
from rest.errors import TelemetryError
from rest.outgoing.deadline import Deadline

MAX_READINGS = 10_000
MASK = "***"

log = logging.getLogger(__name__)


class Abandoned(Exception):
    """The collection took longer than its deadline; its result is not stored."""


@dataclass(slots=True)
class Collected:
    """Result of a collection, with the reason of its failure if it failed."""

    readings: list[Reading] = field(default_factory=list)
    deployments: list[Deployment] = field(default_factory=list)
    error: str = ""
    duration_ms: float = 0.0


def collect(claim: Claim) -> Collected:
    """Collect, without storing. Every failure is in the result."""
    collected = Collected()
    secrets: dict[str, str] = {}
    with Deadline(claim.deadline) as deadline:
        try:
            secrets = encryption.decrypt(claim.encrypted_secrets)
            job = CollectionJob(
                claim.collector_id, claim.device_id, claim.configuration, secrets, claim.started_at, deadline
            )
            _read(KINDS[claim.kind], job, claim.metric_prefix, collected)
        except (CollectFailed, encryption.SecretsUnreadable) as failed:
            collected.error = str(failed)
        except Exception as error:
            log.exception("the collector %s failed", claim.name or claim.kind)
            collected.error = f"internal error: {type(error).__name__}; the log of the worker has the traceback"
        collected.duration_ms = round(deadline.elapsed * 1000, 3)
    collected.error = _redact(" ".join(collected.error.split()), secrets.values()) if collected.error else ""
    return collected


def _read(kind: Kind, job: CollectionJob, prefix: str, collected: Collected) -> None:
    for item in kind.collect(job):
        if isinstance(item, Deployment):
            collected.deployments.append(item)
            continue
        if len(collected.readings) == MAX_READINGS:
            raise CollectFailed(f"more than {MAX_READINGS:,} values: collect fewer of them")
        collected.readings.append(item._replace(metric=prefix + item.metric))
    if not collected.readings and not collected.deployments:
        raise CollectFailed("nothing was collected")


def store(claim: Claim, collected: Collected, failing_besides: int, may_store: Callable[[], bool]) -> CollectionResult:
    """Store the collected points as one batch with the ID of the snapshot, with the metrics of the collector itself.

    `may_store` is called directly before. Raises Abandoned, StorageUnavailable and WriterOverloaded.
    """
    readings = [*collected.readings, *self_metrics(claim, collected, failing_besides)]
    batch = build_batch(readings, claim.device_id, claim.started_at)
    batch.batch_id = claim.snapshot_id
    if not may_store():
        raise Abandoned
    error = collected.error
    rejections: Sequence[Rejection]
    try:
        receipt = accept(batch, Caller.internal(f"collector {claim.name}"))
        rejections, accepted = receipt.rejected, receipt.accepted
    except RequestRejected as rejected:
        rejections, accepted = rejected.rejections, 0
        error = error or rejected.detail
    except StorageError:
        raise
    except TelemetryError as refused:
        rejections, accepted = [], 0
        error = error or str(refused)
    if collected.deployments:
        store_deployments(claim.device_id, claim.collector, collected.deployments, claim.started_at)
    count = len(collected.readings)
    rejected_readings = sum(1 for rejection in rejections if rejection.index < count)
    of_itself = max(0, len(readings) - count - (len(rejections) - rejected_readings))
    if not error and rejected_readings:
        error = f"{rejected_readings} of {count} values were rejected: {rejections[0].detail}"
    return CollectionResult(
        collected.duration_ms, max(0, accepted - of_itself), rejected_readings, batch.digest().hex(), error
    )


def self_metrics(claim: Claim, collected: Collected, failing_besides: int) -> Iterable[Reading]:
    """Yield the metrics of the collector itself, which alert rules can watch."""
    prefix = f"collector.{claim.name}."
    failed = bool(collected.error)
    yield Reading(prefix + "up", 0.0 if failed else 1.0)
    yield Reading(prefix + "duration_ms", collected.duration_ms, "ms")
    yield Reading("collectors.failing", float(failing_besides + failed))


def _redact(text: str, secrets: Iterable[str]) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text
