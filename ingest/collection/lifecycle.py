"""Create, validate, change and delete collectors, request a collection, and try one without storing."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from ingest.collection.claims import Claim
from ingest.collection.kinds import KINDS
from ingest.collection.models import Collector, CollectorState, new_snapshot_id
from ingest.collection.run import Collected, build_batch, collect, self_metrics
from ingest.collectors.reading import Reading
from ingest.collectors.schedule import next_due, offset_of
from rest.errors import InvalidFields, TelemetryError
from rest.names import NAME_LENGTH, id_error, name_error

FIELDS = (
    "name", "kind", "device_id", "configuration", "secrets", "metric_prefix", "interval", "jitter", "deadline",
    "enabled",
)  # fmt: skip
MAX_INTERVAL = 86_400  # seconds
MAX_DEADLINE = 300  # seconds
MAX_TRY_DEADLINE = 20  # seconds: a request waits for it
MAX_SECRET_LENGTH = 4096
MAX_CONCURRENT_TRIES = 4  # in a process: each occupies a thread while the target answers

FieldErrors = list[tuple[str, str]]
_tries = threading.BoundedSemaphore(MAX_CONCURRENT_TRIES)


class TriesBusy(TelemetryError):
    """Too many collectors are being tried."""

    status = 409
    retry_after = 10


@dataclass(frozen=True, slots=True)
class Trial:
    """Result of a trial: the points that one collection would store."""

    readings: list[Reading]
    deployments: list[Any]
    rejected: list[str]
    error: str
    duration_ms: float


def create_collector(fields: Mapping[str, Any], by: str) -> Collector:
    """Create a collector. Raises InvalidFields."""
    collector = Collector(created_by=by)
    set_fields(collector, fields)
    check_collector(collector)
    with transaction.atomic():
        collector.save()
        CollectorState.objects.create(collector=collector, due_at=first_due(collector, timezone.now()))
    return collector


@transaction.atomic
def change_collector(collector: Collector, fields: Mapping[str, Any]) -> Collector:
    """Update some fields of a collector; omitted secrets keep their values. Raises InvalidFields."""
    stored = Collector.objects.select_for_update().get(pk=collector.pk)
    set_fields(stored, fields)
    check_collector(stored)
    stored.save()
    # The next collection follows the new interval, also if the former one was a day.
    CollectorState.objects.filter(collector=stored).update(due_at=first_due(stored, timezone.now()))
    return stored


def set_fields(collector: Collector, fields: Mapping[str, Any]) -> None:
    """Set fields that are present. Secrets are added to the stored ones; an empty text removes one."""
    kind_before = collector.kind
    for name in FIELDS:
        if name in fields and name != "secrets":
            setattr(collector, name, fields[name])
    kept = {} if kind_before not in ("", collector.kind) or not collector.pk else collector.secrets
    changed = kept | dict(fields.get("secrets") or {})
    collector.secrets = {name: value for name, value in changed.items() if value}


def first_due(collector: Collector, now: datetime) -> datetime:
    """Return when a new or changed collector is due."""
    jitter = collector.interval if collector.jitter is None else collector.jitter
    return next_due(now, collector.interval, offset_of(collector.collector_id, jitter))


def check_collector(collector: Collector) -> None:
    """Validate a collector, and complete its configuration with defaults. Raises InvalidFields with all errors."""
    errors = _find_name_errors(collector)
    for name, low, high in (("interval", 1, MAX_INTERVAL), ("deadline", 1, MAX_DEADLINE)):
        if not low <= getattr(collector, name) <= high:
            errors.append((name, f"must be {low} to {high} seconds"))
    if collector.jitter is not None and not 0 <= collector.jitter <= collector.interval:
        errors.append(("jitter", "must be 0 seconds to the interval, or null for the whole interval"))
    kind = KINDS.get(collector.kind)
    if kind is None:
        errors.append(("kind", f"must be one of {', '.join(KINDS)}"))
    else:
        errors += _find_configuration_errors(collector)
        errors += _find_secret_errors(collector.secrets, kind.secret_names)
    if errors:
        raise InvalidFields(errors)


def complete_configuration(collector: Collector) -> FieldErrors:
    """Set the defaults of the configuration; return its errors, with which it is left as it is."""
    if collector.kind not in KINDS:
        return []
    serializer = KINDS[collector.kind].configuration_class(data=collector.configuration)
    try:
        if serializer.is_valid():
            collector.configuration = dict(serializer.validated_data)
            return []
        return list(_flatten(serializer.errors))
    except InvalidFields as unknown:
        return list(unknown.fields)


def _find_configuration_errors(collector: Collector) -> FieldErrors:
    errors = complete_configuration(collector)
    if not errors:
        errors = list(KINDS[collector.kind].check(collector.configuration, collector.secrets))
    return [(f"configuration.{field}" if field else "configuration", detail) for field, detail in errors]


def _flatten(errors: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield (path, message) of the nested errors of a serializer."""
    if isinstance(errors, Mapping):
        for name, inner in errors.items():
            yield from _flatten(inner, path if name == "non_field_errors" else f"{path}.{name}".lstrip("."))
    elif isinstance(errors, str):
        yield path, errors
    else:
        for error in errors:
            yield from _flatten(error, path)


def _find_secret_errors(secrets: Mapping[str, str], accepted: Mapping[str, str]) -> FieldErrors:
    errors = []
    for name, value in secrets.items():
        if name not in accepted:
            errors.append((f"secrets.{name}", f"is unknown; accepted are {', '.join(accepted) or 'none'}"))
        elif not isinstance(value, str) or not 0 < len(value) <= MAX_SECRET_LENGTH or not value.isprintable():
            errors.append((f"secrets.{name}", f"must be 1 to {MAX_SECRET_LENGTH} printable characters"))
        elif not value.isascii():
            errors.append((f"secrets.{name}", "must be ASCII characters"))
    return errors


def _find_name_errors(collector: Collector) -> FieldErrors:
    errors = []
    for name, find_error in (("name", name_error), ("device_id", id_error)):
        value = getattr(collector, name)
        if not 0 < len(value.strip()) <= NAME_LENGTH:
            errors.append((name, f"must have 1 to {NAME_LENGTH} characters"))
        elif error := find_error(value):
            errors.append((name, error))
    if Collector.objects.filter(name=collector.name).exclude(pk=collector.pk).exists():
        errors.append(("name", f"{collector.name!r} is already used"))
    if len(collector.metric_prefix) > NAME_LENGTH // 2 or not collector.metric_prefix.isprintable():
        errors.append(("metric_prefix", f"must have at most {NAME_LENGTH // 2} printable characters"))
    return errors


def request_collection(collector: Collector, by: str) -> str:
    """Ask a worker to collect now, also while the collector is paused; return the ID of the snapshot.

    A request that no worker has started yet is returned again.
    """
    with transaction.atomic():
        state = CollectorState.objects.select_for_update().get(collector=collector)
        if not state.requested_snapshot_id or state.requested_snapshot_id == state.snapshot_id:
            state.requested_snapshot_id, state.requested_by = new_snapshot_id(), by
            state.save(update_fields=["requested_snapshot_id", "requested_by"])
    return state.requested_snapshot_id


def try_collector(collector: Collector) -> Trial:
    """Collect once in this process and store nothing. Raises TriesBusy."""
    now, stored_id = timezone.now(), collector.collector_id if collector.pk else ""
    claim = Claim(
        0, "", now, now, "", "trial", stored_id, collector.name, collector.kind, collector.device_id,
        collector.configuration, collector.encrypted_secrets, collector.metric_prefix, collector.interval,
        collector.jitter, min(collector.deadline, MAX_TRY_DEADLINE),
    )  # fmt: skip
    if not connection.in_atomic_block:
        connection.close()  # others use it while the target answers
    with _running_try():
        collected = collect(claim)
    return _trial(claim, collected)


@contextmanager
def _running_try() -> Iterator[None]:
    if not _tries.acquire(blocking=False):
        raise TriesBusy(f"{MAX_CONCURRENT_TRIES} collectors are being tried: try again in some seconds")
    try:
        yield
    finally:
        _tries.release()


def reset_running_tries() -> None:
    """Forget running tries: a forked child has none of the threads that run them."""
    global _tries
    _tries = threading.BoundedSemaphore(MAX_CONCURRENT_TRIES)


def _trial(claim: Claim, collected: Collected) -> Trial:
    readings = [*collected.readings, *self_metrics(claim, collected, 0)]
    batch = build_batch(readings, claim.device_id, claim.started_at)
    rejected = [f"{readings[error.index].metric:.80}: {error.detail}" for error in batch.rejected]
    return Trial(
        [reading._replace(device_id=reading.device_id or claim.device_id) for reading in readings],
        collected.deployments,
        rejected,
        collected.error,
        collected.duration_ms,
    )
