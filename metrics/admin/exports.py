"""Exports in the background: who asked for which, how far they are; stopped here where they are in the way."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat

from metrics.admin.bounded import ReadOnlyAdmin
from metrics.export import jobs
from metrics.models import ExportJob


@admin.register(ExportJob)
class ExportJobAdmin(ReadOnlyAdmin):
    title = "Exports"
    help = "Files that people and programs have ordered, kept for a day once they are made."
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
        ended = sum(jobs.cancel_job(job) for job in queryset.iterator(chunk_size=100))
        self.message_user(request, f"{ended:,} exports are cancelled.", messages.SUCCESS)
