"""Read-only admin pages of storage: series, the journal of commits, damaged blocks."""

import json
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.dateparse import parse_datetime
from django.utils.timezone import is_naive, make_aware

from metrics.admin.base import ReadOnlyAdmin
from metrics.models import DamagedBlock, Device, Series
from metrics.storage import shards
from metrics.storage.connection import database_time, read_connection
from metrics.storage.format.codec import Kind
from metrics.storage.units import to_datetime
from metrics.storage.write.journal import JournalLine, read_lines_before

PAGE_LINES = 50  # of the journal


@admin.register(Series)
class SeriesAdmin(ReadOnlyAdmin):
    help = "One metric of one device with one kind of value; created with its first point."
    list_display = ("id", "device", "metric_name", "kind_of_value")
    list_select_related = ("device",)
    search_fields = ("metric_name",)
    sortable_by = ("id",)
    search_help_text = "Full device ID or full metric name."
    fields = ("id", "device", "metric_name", "kind_of_value")

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Series], search_term: str) -> Any:
        """Look up the device first, so that an index is used: a condition on two tables would scan both."""
        if not search_term.strip():
            return queryset, False
        devices = list(Device.objects.filter(device_id=search_term.strip()).values_list("pk", flat=True))
        return queryset.filter(Q(device__in=devices) | Q(metric_name=search_term.strip())), False

    @admin.display(description="kind of value")
    def kind_of_value(self, series: Series) -> str:
        return Kind(series.kind).name.lower()


@admin.register(DamagedBlock)
class DamagedBlockAdmin(ReadOnlyAdmin):
    help = (
        "Blocks with a wrong checksum. Restore the payload of one from a backup, and the next merge restores the block;"
        " delete one whose points are lost."
    )
    list_display = ("__str__", "shard", "bucket", "date", "series", "points", "found_at")
    fields = (*list_display, "seq_from", "seq_to", "time_from", "time_to")
    ordering = ("-found_at",)

    @admin.display(description="day", ordering="time_from")
    def date(self, block: DamagedBlock) -> str:
        first, last = (to_datetime(time).date().isoformat() for time in (block.time_from, block.time_to))
        return first if first == last else f"{first} to {last}"

    @admin.display(description="series", empty_value="unknown")
    def series(self, block: DamagedBlock) -> str | None:
        return None if block.series_from is None else f"{block.series_from} to {block.series_to}"

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        for block in queryset.defer("payload"):
            block.delete()


def journal(request: HttpRequest) -> HttpResponse:
    """Show a page of commits of all shards before a time (`?before=`, RFC 3339), newest first."""
    text = request.GET.get("before", "")
    try:
        before = parse_datetime(text)
        if before is not None and is_naive(before):
            before = make_aware(before)  # of the page's time zone
    except ValueError:  # well formed but not a date of the calendar
        before = None
    with read_connection() as connection:
        until = int((before.timestamp() if before else database_time(connection) + 1) * 1_000_000)
        lines = [
            (line.at, shard, line)
            for shard in shards.all_shards()
            for line in read_lines_before(connection, shard, until, PAGE_LINES)
        ]
    lines.sort(key=lambda row: (row[0], row[1], row[2].seq), reverse=True)
    context = {
        **admin.site.each_context(request),
        "title": "Journal",
        "lines": [_to_context(shard, line) for _, shard, line in lines[:PAGE_LINES]],
        "asked": text,
        "unknown": bool(text) and before is None,
        "earlier": to_datetime(lines[PAGE_LINES - 1][0]).isoformat() if len(lines) >= PAGE_LINES else None,
    }
    return TemplateResponse(request, "admin/journal.html", context)


def _to_context(shard: int, line: JournalLine) -> dict[str, Any]:
    return {"shard": shard, "seq": line.seq, "at": to_datetime(line.at), "entries": json.loads(line.entries)}
