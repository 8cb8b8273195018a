"""Exports in the background: created, claimed with a lease, written piece by piece, kept for a day, deleted.

The row in PostgreSQL is the truth; Celery only wakes a worker. Each worker writes to its own file. Twice a
second, after a sync to disk, it saves how many bytes belong to the export and where to continue. If a worker is
killed, its lease expires and another worker continues from there, in a new file; bytes after the last save of the first
worker are ignored. The download is the saved bytes of all files, in order.

The files are in settings.EXPORTS_DIR. If web processes and workers run on several machines, they must share it.
"""

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from django.db import OperationalError, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from metrics.audit.record import record
from metrics.error_responses import EXPECTED_ERRORS
from metrics.events.definitions import JobCreated, JobFailed, JobFinished, JobProgressed
from metrics.export import job_files
from metrics.export.formats import ExportFormat, export_format
from metrics.export.job_events import record_job_event
from metrics.export.read_pieces import START, ExportPosition, PieceReader
from metrics.models import Device, ExportJob, ExportStatus
from metrics.query.execute import resolve_series
from metrics.query.query import Query
from metrics.storage.errors import StorageUnavailable
from rest.caller import Caller
from rest.csv_text import STANDARD, CsvDialect
from rest.errors import Gone, RateLimited

log = logging.getLogger(__name__)

LEASE_PERIOD = timedelta(seconds=60)  # without a save for so long, a worker counts as dead
SAVE_INTERVAL = 0.5  # seconds
FILE_RETENTION = timedelta(hours=24)  # after the end of the job
MAX_UNFINISHED = 20  # jobs of one owner
RETRY_AFTER = 5.0  # seconds until one of them may be finished
MAX_ATTEMPTS = 10  # workers that may be killed by one job

_QUERY_FIELDS = ("devices", "metrics", "groups", "aggregation", "interval", "fill", "timezone", "group_by")
_UNFINISHED = (ExportStatus.QUEUED, ExportStatus.RUNNING)
_worker_lock = threading.Lock()


class _LeaseLost(Exception):
    """The job was cancelled, or another worker has taken it over."""


class _ExportFailed(Exception):
    """The file cannot be made; the message is for the owner."""


def create_job(owner: str, query: Query, format_name: str, dialect: CsvDialect = STANDARD) -> ExportJob:
    """Queue an export. Raises InvalidField, or RateLimited if the owner has too many unfinished jobs."""
    query.validate()
    if ExportJob.objects.filter(owner=owner, status__in=_UNFINISHED).count() >= MAX_UNFINISHED:
        raise RateLimited(f"{MAX_UNFINISHED} of your exports are unfinished; wait for one or cancel one", RETRY_AFTER)
    fields = asdict(query)
    stored = {name: fields[name] for name in _QUERY_FIELDS}
    stored |= {"start": query.start.isoformat(), "end": query.end.isoformat()}
    if format_name == "csv":
        stored["csv"] = asdict(dialect)
    with transaction.atomic():
        job = ExportJob.objects.create(owner=owner, question=stored, format=format_name)
        record("ordered", job, after={"format": format_name, **stored})
        record_job_event(JobCreated, job)
    return job


def query_of(job: ExportJob) -> Query:
    fields: dict[str, Any] = {name: value for name, value in job.question.items() if name != "csv"}
    for name in ("devices", "metrics", "groups"):
        fields[name] = None if fields.get(name) is None else tuple(fields[name])
    for name in ("start", "end"):
        fields[name] = datetime.fromisoformat(fields[name])
    return Query(**fields)


def dialect_of(job: ExportJob) -> CsvDialect:
    return CsvDialect(**job.question.get("csv", {}))  # orders of earlier versions have none


def _format_of(job: ExportJob) -> ExportFormat:
    return export_format(job.format, dialect_of(job))


def visible_jobs(caller: Caller, own: bool = False) -> QuerySet[ExportJob]:
    """Return the jobs visible to a caller: its own, to an admin all; with `own` an admin's own only."""
    sees_all = caller.is_admin and not own
    return ExportJob.objects.all() if sees_all else ExportJob.objects.filter(owner=caller.name)


def check_visible(job: ExportJob, caller: Caller) -> None:
    """Raise Gone if the file may contain devices that the caller does not see any more."""
    if caller.sees_all:
        return
    visible = Device.objects.visible_to(caller).filter(device_id__in=job.devices).count()
    if not job.devices or visible < len(job.devices):
        raise Gone("the export contains devices that you no longer see; create the export again")


def cancel_job(job: ExportJob) -> bool:
    """Cancel a job; return False if it is finished. Its worker notices at its next save."""
    now = timezone.now()
    with transaction.atomic():
        cancelled = ExportJob.objects.filter(pk=job.pk, status__in=_UNFINISHED).update(
            status=ExportStatus.CANCELLED, finished_at=now, expires_at=now + FILE_RETENTION, bytes=0, files=[]
        )
        job.refresh_from_db()
        if cancelled:
            record("cancelled", job)
            record_job_event(JobFinished, job)
    if cancelled:
        job_files.delete_files(job.export_id)
    return bool(cancelled)


def run_pending_jobs() -> int:
    """Run jobs until none is left and return how many. One per process at a time: its other threads merge blocks."""
    finished = 0
    if not _worker_lock.acquire(blocking=False):
        return finished
    try:
        while (job := claim_job()) is not None:
            _run_job(job)
            finished += 1
    finally:
        _worker_lock.release()
    return finished


def claim_job() -> ExportJob | None:
    """Return the oldest job without a live worker, with a lease; None if there is none."""
    now = timezone.now()
    claimable = Q(status=ExportStatus.QUEUED) | Q(status=ExportStatus.RUNNING, lease_until__lt=now)
    with transaction.atomic():
        job = ExportJob.objects.select_for_update(skip_locked=True).filter(claimable).order_by("id").first()
        if job is None:
            return None
        job.status, job.lease_until = ExportStatus.RUNNING, now + LEASE_PERIOD
        job.started_at = job.started_at or now
        job.attempt += 1
        job.save(update_fields=["status", "lease_until", "started_at", "attempt"])
        record_job_event(JobProgressed, job)
    return job


def delete_expired_jobs(now: datetime | None = None) -> int:
    """Delete expired jobs, and files without a job; return how many jobs."""
    deleted, _ = ExportJob.objects.filter(expires_at__lt=now or timezone.now()).delete()
    orphans = job_files.list_export_ids()
    orphans -= set(ExportJob.objects.filter(export_id__in=orphans).values_list("export_id", flat=True))
    for export_id in orphans:
        job_files.delete_files(export_id)
    return deleted


def _run_job(job: ExportJob) -> None:
    try:
        if job.attempt > MAX_ATTEMPTS:
            raise _ExportFailed(f"its worker was killed {MAX_ATTEMPTS} times")
        files = _convert(job, _write_rows(job))
        size = sum(file_size for _, file_size in files)
        with transaction.atomic():
            _save(job, status=ExportStatus.DONE, progress=1.0, files=files, bytes=size, **_end_times())
            job.status, job.progress = ExportStatus.DONE, 1.0
            record_job_event(JobFinished, job)
        job_files.delete_files(job.export_id, keep=files)
    except _LeaseLost:
        current = ExportJob.objects.filter(pk=job.pk).first()
        if current is None or current.status != ExportStatus.RUNNING:
            job_files.delete_files(job.export_id, keep=current.files if current else ())
    except (StorageUnavailable, OperationalError):
        raise  # a worker continues when the lease has expired
    except Exception as error:
        _fail(job, _error_text(error))


def _error_text(error: Exception) -> str:
    if isinstance(error, (*EXPECTED_ERRORS, _ExportFailed)):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"the file cannot be written: {error.strerror}"
    log.exception("an export failed")
    return "the export failed; the error is in the worker's log"


def _fail(job: ExportJob, detail: str) -> None:
    own = ExportJob.objects.filter(pk=job.pk, status=ExportStatus.RUNNING, attempt=job.attempt)
    with transaction.atomic():
        if own.update(status=ExportStatus.FAILED, detail=detail, bytes=0, files=[], **_end_times()):
            job.status = ExportStatus.FAILED
            record_job_event(JobFailed, job, detail=detail)
    job_files.delete_files(job.export_id)


def _end_times() -> dict[str, datetime]:
    now = timezone.now()
    return {"finished_at": now, "expires_at": now + FILE_RETENTION}


def _save(job: ExportJob, **values: Any) -> None:
    """Save progress and renew the lease. Raises _LeaseLost."""
    own = ExportJob.objects.filter(pk=job.pk, status=ExportStatus.RUNNING, attempt=job.attempt)
    if not own.update(**{"lease_until": timezone.now() + LEASE_PERIOD} | values):
        raise _LeaseLost


def _write_rows(job: ExportJob) -> list[job_files.FileSize]:
    """Write the rows from the last saved position on; return all files of the job."""
    query, file_format = query_of(job), _format_of(job)
    series = resolve_series(query)
    job.devices = sorted({*job.devices, *(entry.device_id for entry in series)})
    _save(job, devices=job.devices)
    earlier: list[job_files.FileSize] = [(name, size) for name, size in job.files]
    saved = time.monotonic()
    with job_files.JobFile(f"{job.export_id}.{job.attempt}") as file:
        if not earlier:
            file.write(file_format.header())
        for piece in PieceReader(query, series, _position(job)):
            for data in file_format.encode(piece.series):
                file.write(data)
            job.rows += sum(map(len, piece.series))
            job.incomplete += piece.incomplete
            job.place, job.progress = piece.next_position, piece.progress
            if time.monotonic() - saved >= SAVE_INTERVAL:
                _save_progress(job, [*earlier, file.sync()])
                saved = time.monotonic()
        files = [*earlier, file.sync()]
        _save_progress(job, files)
        if not job.rows and not job.incomplete:
            raise _ExportFailed("these devices and metrics have no data in this range")
        return files


def _position(job: ExportJob) -> ExportPosition:
    device, metric, time_us = job.place or START
    return device, metric, time_us


def _save_progress(job: ExportJob, files: list[job_files.FileSize]) -> None:
    progress = job.progress * 0.99  # 1 when the file can be downloaded
    with transaction.atomic():
        _save(
            job,
            files=files,
            bytes=sum(size for _, size in files),
            rows=job.rows,
            place=job.place,
            progress=progress,
            incomplete=sorted(set(job.incomplete)),
        )
        record_job_event(JobProgressed, job, progress)


def _convert(job: ExportJob, files: list[job_files.FileSize]) -> list[job_files.FileSize]:
    """Append the note about missing points, or convert the rows into a format that cannot be appended to.

    Returns the files of the job.
    """
    file_format, incomplete = _format_of(job), sorted(set(job.incomplete))
    if file_format.convert is None and not incomplete:
        return files
    with job_files.JobFile(f"{job.export_id}.{job.attempt}.{job.format}") as file:
        if file_format.convert is None:
            file.write(file_format.encode_note(incomplete))
            return [*files, file.sync()]
        for data in _renew_lease(job, file_format.convert(job_files.read_files(files), incomplete)):
            file.write(data)
        return [file.sync()]


def _renew_lease(job: ExportJob, pieces: Iterator[bytes]) -> Iterator[bytes]:
    saved = time.monotonic()
    for data in pieces:
        yield data
        if time.monotonic() - saved >= SAVE_INTERVAL:
            _save(job)
            saved = time.monotonic()
