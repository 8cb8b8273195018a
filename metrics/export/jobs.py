"""Exports in the background: ordered, claimed with a lease, made piece by piece, kept for a while, dropped.

The row in PostgreSQL is the truth; Celery only brings a worker to look at it. Whoever makes an export writes a file
of its own, and notes twice a second, once the disk has them, how many bytes count and where to go on. A worker that
is killed leaves what it noted: when its lease is over, another goes on from there in a file of its own. What the
first wrote beyond its note, or still writes, does not count. The download is what counts of all files, in order.

The files lie in settings.EXPORTS_DIR. Where web processes and workers run on several machines, it has to be a folder
that they share.
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
from metrics.errors import EXPECTED_ERRORS
from metrics.export import files
from metrics.export.formats import FORMATS
from metrics.export.pieces import BEGINNING, Pieces, Place
from metrics.models import ExportJob, ExportStatus
from metrics.query.execute import resolve_series
from metrics.query.query import Query
from metrics.storage.errors import StorageUnavailable
from rest.caller import Caller
from rest.errors import RateLimited

log = logging.getLogger(__name__)

LEASE = timedelta(seconds=60)  # without a note for so long, whoever makes it is taken for dead
NOTED_EVERY = 0.5  # seconds
KEPT = timedelta(hours=24)  # from its end on
MOST_UNFINISHED = 20  # of one owner
WAIT = 5.0  # seconds until one of them may be finished
MOST_ATTEMPTS = 10  # workers that may die of it

_ASKED = ("devices", "metrics", "groups", "aggregation", "interval", "fill", "timezone", "group_by")
_UNFINISHED = (ExportStatus.QUEUED, ExportStatus.RUNNING)
_working = threading.Lock()


class _Lost(Exception):
    """It was cancelled, or another worker has taken it over."""


class _Failed(Exception):
    """It cannot be made; the message is for whoever asked."""


def order(owner: str, question: Query, kind: str) -> ExportJob:
    """Have an export made. Raises Unanswerable, or RateLimited where the owner waits for many already."""
    question.validate()
    if ExportJob.objects.filter(owner=owner, status__in=_UNFINISHED).count() >= MOST_UNFINISHED:
        raise RateLimited(f"{MOST_UNFINISHED} exports of yours are not finished yet; wait for one, or cancel one", WAIT)
    kept = asdict(question)
    asked = {name: kept[name] for name in _ASKED}
    asked |= {"start": question.start.isoformat(), "end": question.end.isoformat()}
    with transaction.atomic():
        job = ExportJob.objects.create(owner=owner, question=asked, format=kind)
        record("ordered", job, after={"format": kind, **asked})
    return job


def question_of(job: ExportJob) -> Query:
    asked: dict[str, Any] = dict(job.question)
    for name in ("devices", "metrics", "groups"):
        asked[name] = None if asked.get(name) is None else tuple(asked[name])
    for name in ("start", "end"):
        asked[name] = datetime.fromisoformat(asked[name])
    return Query(**asked)


def visible_to(caller: Caller, own: bool = False) -> QuerySet[ExportJob]:
    """Exports that somebody may see: one's own, an admin all; with `own` an admin's own alone."""
    everything = caller.is_admin and not own
    return ExportJob.objects.all() if everything else ExportJob.objects.filter(owner=caller.name)


def cancel(job: ExportJob) -> bool:
    """Make it no more; False where it is finished. Whoever makes it notices with its next note."""
    now = timezone.now()
    with transaction.atomic():
        ended = ExportJob.objects.filter(pk=job.pk, status__in=_UNFINISHED).update(
            status=ExportStatus.CANCELLED, finished_at=now, expires_at=now + KEPT, bytes=0, files=[]
        )
        if ended:
            record("cancelled", job)
    if ended:
        files.remove(job.export_id)
    job.refresh_from_db()
    return bool(ended)


def work() -> int:
    """Make the exports that wait; returns how many. One at a time in a process: the others are for merging."""
    made = 0
    if not _working.acquire(blocking=False):
        return made
    try:
        while (job := claim()) is not None:
            _make(job)
            made += 1
    finally:
        _working.release()
    return made


def claim() -> ExportJob | None:
    """The oldest export that nobody makes, for as long as the lease is renewed."""
    now = timezone.now()
    free = Q(status=ExportStatus.QUEUED) | Q(status=ExportStatus.RUNNING, lease_until__lt=now)
    with transaction.atomic():
        job = ExportJob.objects.select_for_update(skip_locked=True).filter(free).order_by("id").first()
        if job is None:
            return None
        job.status, job.lease_until = ExportStatus.RUNNING, now + LEASE
        job.started_at = job.started_at or now
        job.attempt += 1
        job.save(update_fields=["status", "lease_until", "started_at", "attempt"])
    return job


def drop_expired(now: datetime | None = None) -> int:
    """Delete the exports whose time is over, and files that belong to none; returns how many rows."""
    over = ExportJob.objects.filter(expires_at__lt=now or timezone.now())
    many, _ = over.delete()
    strays = files.exports_on_disk()
    strays -= set(ExportJob.objects.filter(export_id__in=strays).values_list("export_id", flat=True))
    for export_id in strays:
        files.remove(export_id)
    return many


def _make(job: ExportJob) -> None:
    try:
        if job.attempt > MOST_ATTEMPTS:
            raise _Failed(f"the worker that made it ended before its time, {MOST_ATTEMPTS} times")
        counted = _finished(job, _written(job))
        _note(
            job, status=ExportStatus.DONE, progress=1.0, files=counted, bytes=sum(size for _, size in counted), **_end()
        )
        files.remove(job.export_id, but=counted)
    except _Lost:
        now = ExportJob.objects.filter(pk=job.pk).first()
        if now is None or now.status != ExportStatus.RUNNING:
            files.remove(job.export_id, but=now.files if now else ())
    except (StorageUnavailable, OperationalError):
        raise  # it is gone on with when the lease is over
    except Exception as error:
        _fail(job, _words(error))


def _words(error: Exception) -> str:
    if isinstance(error, (*EXPECTED_ERRORS, _Failed)):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"the file cannot be written: {error.strerror}"
    log.exception("an export failed")
    return "the export failed; what happened is in the worker's log"


def _fail(job: ExportJob, detail: str) -> None:
    ExportJob.objects.filter(pk=job.pk, status=ExportStatus.RUNNING, attempt=job.attempt).update(
        status=ExportStatus.FAILED, detail=detail, bytes=0, files=[], **_end()
    )
    files.remove(job.export_id)


def _end() -> dict[str, datetime]:
    now = timezone.now()
    return {"finished_at": now, "expires_at": now + KEPT}


def _note(job: ExportJob, **values: Any) -> None:
    """Write down how far it is, and keep the lease. Raises _Lost where it is not ours any more."""
    ours = ExportJob.objects.filter(pk=job.pk, status=ExportStatus.RUNNING, attempt=job.attempt)
    if not ours.update(**{"lease_until": timezone.now() + LEASE} | values):
        raise _Lost


def _written(job: ExportJob) -> list[files.Counted]:
    """Write the rows from where the last note ends; returns what counts."""
    question, form = question_of(job), FORMATS[job.format]
    found = resolve_series(question)
    before: list[files.Counted] = [(name, size) for name, size in job.files]
    began = sum(size for _, size in before)
    noted = time.monotonic()
    with files.Part(f"{job.export_id}.{job.attempt}") as part:
        if not before:
            part.write(form.head())
        for piece in Pieces(question, found, _place(job)):
            for data in form.body(piece.lines):
                part.write(data)
            job.rows += sum(map(len, piece.lines))
            job.incomplete += [f"{name} is damaged and was left out" for name in piece.damaged]
            job.place, job.progress = piece.after, piece.progress
            if time.monotonic() - noted >= NOTED_EVERY:
                _note_part(job, before, part, began)
                noted = time.monotonic()
        _note_part(job, before, part, began)
        if not job.rows:
            raise _Failed("there is no data of these devices and metrics in this range")
        return [*before, part.kept()]


def _place(job: ExportJob) -> Place:
    device, metric, moment = job.place or BEGINNING
    return device, metric, moment


def _note_part(job: ExportJob, before: list[files.Counted], part: files.Part, began: int) -> None:
    counted = [*before, part.kept()]
    _note(
        job,
        files=counted,
        bytes=began + part.size,
        rows=job.rows,
        place=job.place,
        progress=job.progress * 0.99,  # 1 when it can be fetched
        incomplete=sorted(set(job.incomplete)),
    )


def _finished(job: ExportJob, written: list[files.Counted]) -> list[files.Counted]:
    """What was written, made into the file that was asked for."""
    finish = FORMATS[job.format].finish
    if finish is None:
        return written
    with files.Part(f"{job.export_id}.{job.attempt}.{job.format}") as part:
        for data in _renewing(job, finish(files.read(written))):
            part.write(data)
        return [part.kept()]


def _renewing(job: ExportJob, made: Iterator[bytes]) -> Iterator[bytes]:
    noted = time.monotonic()
    for data in made:
        yield data
        if time.monotonic() - noted >= NOTED_EVERY:
            _note(job)
            noted = time.monotonic()
