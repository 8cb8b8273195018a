"""The inbox of rejected points, from which operators replay and dismiss."""

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from dashboard.alert_rows import display_name
from dashboard.device_overview import plural
from dashboard.number_format import duration_text
from dashboard.pagination import paginate, search_of
from dashboard.views.access import operator_of
from ingest.models import Rejected
from ingest.rejected.listing import replayable_ids, with_kept_counts
from ingest.rejected.replay import replay
from ingest.rejected.retention import delete_rows
from metrics.error_responses import EXPECTED_ERRORS
from metrics.storage.connection import read_connection
from rest.caller import caller_of

SENDER_KINDS = {"key": "API key", "user": "User", "service": "Service"}
REASONS = {"too_early": "Timestamp in the future", "unreadable": "Invalid request"}


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row of the inbox with its values in words."""

    rejected: Any  # with `kept`
    age: str

    @property
    def reason(self) -> str:
        return REASONS.get(self.rejected.reason, self.rejected.get_reason_display())

    @property
    def sender(self) -> str:
        return display_name(self.rejected.sender) or "Several senders"

    @property
    def sender_kind(self) -> str:
        return SENDER_KINDS.get(self.rejected.sender.split(":")[0], "")

    @property
    def count(self) -> str:
        return f"{self.rejected.count:,}"

    @property
    def kept_count(self) -> str:
        return f"{self.rejected.kept:,}"

    @property
    def lost_count(self) -> int:
        """The points that were counted but cannot be replayed."""
        return max(0, self.rejected.count - self.rejected.kept)


@login_required
@require_safe
def inbox(request: HttpRequest) -> HttpResponse:
    """Show a page of rejected points, newest first; `?q=` searches devices and metrics."""
    search = search_of(request)
    rejected = Rejected.objects.visible_to(caller_of(request.user)).containing(search)
    page, now = paginate(request, with_kept_counts(rejected)), timezone.now()
    rows = [RejectedRow(row, duration_text((now - row.last_at).total_seconds())) for row in page.rows]
    return render(request, "dashboard/rejected.html", {"rows": rows, "page": page, "search": search})


@login_required
@require_POST
def replay_row(request: HttpRequest, number: int) -> HttpResponse:
    """Replay the points of one row."""
    row = _row(request, number)
    return _replay(request, [row.pk], str(row.metric_name))


@login_required
@require_POST
def replay_all(request: HttpRequest) -> HttpResponse:
    """Replay the points of all rows that the caller sees."""
    return _replay(request, replayable_ids(Rejected.objects.visible_to(operator_of(request))), "")


@login_required
@require_POST
def dismiss(request: HttpRequest, number: int) -> HttpResponse:
    """Delete a row and its points."""
    row = _row(request, number)
    with read_connection() as connection:
        delete_rows(connection, [row.pk])
    messages.success(request, f"{plural(row.count, 'rejected point')} dismissed.")
    return redirect("dashboard:rejected")


def _row(request: HttpRequest, number: int) -> Rejected:
    row = Rejected.objects.visible_to(operator_of(request)).filter(pk=number).first()
    if row is None:
        raise Http404
    return row


def _replay(request: HttpRequest, numbers: Any, metric_name: str) -> HttpResponse:
    """Replay rows and show the number of stored and rejected points."""
    try:
        result = replay(numbers, caller_of(request.user))
    except EXPECTED_ERRORS as error:
        messages.error(request, f"Not replayed: {error}. Try again.")
        return redirect("dashboard:rejected")
    of_metric = f" of {metric_name}" if metric_name else ""
    message = f"{plural(result.replayed, 'point')}{of_metric} stored."
    if result.rejected:
        (_, _, _, detail), _ = result.errors.most_common(1)[0]
        message += f" {plural(result.rejected, 'point')} rejected again: {detail}."
    if result.next is not None:
        message += " More points remain: replay again."
    (messages.warning if result.rejected else messages.success)(request, message)
    return redirect("dashboard:rejected")
