"""The rejected inbox: who sent what that was not kept, why, how often; operators send it through once more."""

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from dashboard.device_overview import plural
from dashboard.number_format import duration_text
from ingest.models import Rejected
from ingest.rejected.listing import replayable_ids, with_kept_counts
from ingest.rejected.replay import replay
from ingest.rejected.retention import delete_rows
from metrics.errors import EXPECTED_ERRORS
from metrics.storage.connection import read_connection
from rest.caller import Caller, Scope, caller_of

PAGE = 50
FARTHEST = 100_000
KINDS = {"key": "API key", "user": "Person", "service": "Service"}


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the inbox as the page shows it."""

    rejected: Any  # with `kept`
    age: str

    @property
    def who(self) -> str:
        return self.rejected.sender.split(":")[-1] or "Several senders"

    @property
    def kind(self) -> str:
        return KINDS.get(self.rejected.sender.split(":")[0], "")

    @property
    def count(self) -> str:
        return f"{self.rejected.count:,}"

    @property
    def kept(self) -> str:
        return f"{self.rejected.kept:,}"

    @property
    def lost(self) -> int:
        """Counted, and not there to be replayed."""
        return max(0, self.rejected.count - self.rejected.kept)


@login_required
@require_safe
def inbox(request: HttpRequest) -> HttpResponse:
    """A page of rows, the latest first; `?q=` is part of the name of a device or a metric."""
    caller = caller_of(request.user)
    words = request.GET.get("q", "").replace("\0", "").strip()[:200]
    given = request.GET.get("from", "0")
    start = min(int(given), FARTHEST) if given.isascii() and given.isdigit() and len(given) < 10 else 0
    found = Rejected.objects.visible_to(caller).containing(words)
    rows = list(with_kept_counts(found)[start : start + PAGE + 1])
    now = timezone.now()
    context = {
        "rows": [Row(row, duration_text((now - row.last_at).total_seconds())) for row in rows[:PAGE]],
        "total": found.count(),
        "words": words,
        "start": start,
        "next": start + PAGE if len(rows) > PAGE else None,
        "operates": caller.may(Scope.OPERATE),
    }
    return render(request, "dashboard/rejected.html", context)


@login_required
@require_POST
def replay_row(request: HttpRequest, number: int) -> HttpResponse:
    """The points of one row once more."""
    row = _row(request, number)
    return _replayed(request, [row.pk], str(row.metric_name))


@login_required
@require_POST
def replay_all(request: HttpRequest) -> HttpResponse:
    """Of all rows that are shown to whoever asks."""
    caller = _operator(request)
    return _replayed(request, replayable_ids(Rejected.objects.visible_to(caller)), "")


@login_required
@require_POST
def dismiss(request: HttpRequest, number: int) -> HttpResponse:
    """Let go of a row and its points."""
    row = _row(request, number)
    with read_connection() as connection:
        delete_rows(connection, [row.pk])
    messages.success(request, f"{plural(row.count, 'rejected point')} dismissed.")
    return redirect("dashboard:rejected")


def _operator(request: HttpRequest) -> Caller:
    caller = caller_of(request.user)
    if not caller.may(Scope.OPERATE):
        raise PermissionDenied
    return caller


def _row(request: HttpRequest, number: int) -> Rejected:
    row = Rejected.objects.visible_to(_operator(request)).filter(pk=number).first()
    if row is None:
        raise Http404
    return row


def _replayed(request: HttpRequest, numbers: Any, metric_name: str) -> HttpResponse:
    try:
        told = replay(numbers, caller_of(request.user))
    except EXPECTED_ERRORS as error:
        messages.error(request, f"Not replayed: {error}. Try again.")
        return redirect("dashboard:rejected")
    of_metric = f" of {metric_name}" if metric_name else ""
    sentence = f"{plural(told.replayed, 'point')}{of_metric} stored."
    if told.rejected:
        (_, _, _, detail), _ = told.errors.most_common(1)[0]
        sentence += f" {plural(told.rejected, 'point')} rejected again: {detail}."
    if told.next is not None:
        sentence += " There are more: replay once again."
    (messages.warning if told.rejected else messages.success)(request, sentence)
    return redirect("dashboard:rejected")
