"""The inbox of rejected points, from which operators replay and dismiss."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from dashboard.device_overview import plural
from dashboard.pagination import paginate, search_of
from dashboard.views.access import operator_of
from ingest.models import Rejected
from ingest.rejected.listing import replayable_ids, with_kept_counts
from ingest.rejected.replay import replay
from ingest.rejected.retention import delete_rows
from metrics.error_responses import EXPECTED_ERRORS
from metrics.storage.connection import read_connection
from rest.caller import caller_of


@require_safe
def inbox(request: HttpRequest) -> HttpResponse:
    """Show a page of rejected points, newest first; `?q=` searches devices and metrics."""
    search = search_of(request)
    rejected = Rejected.objects.visible_to(caller_of(request.user)).containing(search)
    page = paginate(request, with_kept_counts(rejected))
    return render(request, "dashboard/rejected.html", {"page": page, "search": search})


@require_POST
def replay_row(request: HttpRequest, number: int) -> HttpResponse:
    """Replay the points of one row."""
    row = _row(request, number)
    return _replay(request, [row.pk], str(row.metric_name))


@require_POST
def replay_all(request: HttpRequest) -> HttpResponse:
    """Replay the points of all rows that the caller sees."""
    return _replay(request, replayable_ids(Rejected.objects.visible_to(operator_of(request))), "")


@require_POST
def dismiss(request: HttpRequest, number: int) -> HttpResponse:
    """Delete a row and its points."""
    row = _row(request, number)
    with read_connection() as connection:
        delete_rows(connection, [row.pk])
    messages.success(request, f"{plural(row.count, 'rejected point')} dismissed.")
    return redirect("dashboard:rejected")


def _row(request: HttpRequest, number: int) -> Rejected:
    return get_object_or_404(Rejected.objects.visible_to(operator_of(request)), pk=number)


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
