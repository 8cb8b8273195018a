"""Events of background exports."""

from typing import Any

from django.contrib.auth import get_user_model

from metrics.events.definitions import JobEvent
from metrics.events.outbox import record_event
from metrics.models import ExportJob

NO_USER = 0  # no user has this primary key: only the event bus carries the events of API keys' exports
_USER = "user:"


def record_job_event(event: type[JobEvent], job: ExportJob, progress: float | None = None, **more: Any) -> None:
    """Record an event with the present state of an export, in the transaction that stores it.

    progress  the stored progress, where the job object has that of the rows alone
    """
    record_event(
        event(
            job_id=job.export_id,
            format=job.format,
            status=job.status,
            progress=round(job.progress if progress is None else progress, 4),
            rows=job.rows,
            user_id=_find_user(job.owner),
            **more,
        )
    )


def _find_user(owner: str) -> int:
    if not owner.startswith(_USER):
        return NO_USER
    user = get_user_model().objects.filter(username=owner.removeprefix(_USER)).values_list("pk", flat=True).first()
    return NO_USER if user is None else user
