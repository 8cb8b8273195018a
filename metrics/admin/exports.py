"""Admin page of exports in the background: read-only, with cancel."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat

from metrics.admin.base import ReadOnlyAdmin
from metrics.export import jobs
from metrics.models import ExportJob


@admin.register(ExportJob)
class ExportJobAdmin(ReadOnlyAdmin):
    title = "Exports"
    help = "Files that users and programs created; each is kept for a day after it is done."
    list_display = ("export_id", "owner", "status", "percent", "rows", "size", "format", "created_at", "finished_at")
    list_filter = ("status", "format", "created_at")
    search_fields = ("=export_id", "^owner")
    actions = ("cancel",)
    fields = (
        "export_id", "owner", "status", "percent", "detail", "incomplete", "rows", "size", "format", "question",
        "attempt", "lease_until", "created_at", "started_at", "finished_at", "expires_at",
    )  # fmt: skip

    @admin.display(description="progress", ordering="progress")
    def percent(self, job: ExportJob) -> str:
        return f"{job.progress:.0%}"

    @admin.display(description="size", ordering="bytes")
    def size(self, job: ExportJob) -> str:
        return filesizeformat(job.bytes)

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_superuser)

    @admin.action(description="Cancel the selected exports", permissions=["cancel"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[ExportJob]) -> None:
        cancelled = sum(jobs.cancel_job(job) for job in queryset.iterator(chunk_size=100))
        self.message_user(request, f"{cancelled:,} exports were cancelled.", messages.SUCCESS)
