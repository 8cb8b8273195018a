"""The audit, looked at."""

import json
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join

from metrics.admin.bounded import ReadOnlyAdmin
from metrics.audit.model_changes import watched_models
from metrics.models import AuditEntry

_NOT_THERE = object()


class ObjectTypeFilter(admin.SimpleListFilter):
    """By kind of object; a list from the code, since finding it in the table would mean to read all of it."""

    title = "kind of object"
    parameter_name = "object_type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        names = sorted(
            (str(model._meta.verbose_name) for model in apps.get_models() if model in watched_models), key=str.lower
        )
        return [(name, name) for name in names]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        return queryset.filter(object_type=self.value()) if self.value() else queryset


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    title = "Audit"
    help = (
        "Who did what to which object. Entries are never changed or deleted; manage.py verify_audit names the first"
        " one that is not what it was."
    )
    list_display = ("number", "at", "actor", "action", "object_type", "object_id")
    list_filter = ("at", ObjectTypeFilter)
    search_fields = ("actor", "^object_id", "=request_id", "=action")
    sortable_by = ("number",)
    search_help_text = "Part of who did it, the beginning of the object's name, an action or a request's id."
    fields = (
        "number", "at", "actor", "action", "object_type", "object_id", "difference", "request_id", "address", "heads",
        "hash",
    )  # fmt: skip

    @admin.display(description="difference")
    def difference(self, entry: AuditEntry) -> str:
        was, became = entry.was, entry.became
        names = list(dict.fromkeys([*was, *became]))
        if not names:
            return "-"
        rows = [(name, _text(was.get(name, _NOT_THERE)), _text(became.get(name, _NOT_THERE))) for name in names]
        lines = format_html_join("", "<tr><th>{}</th><td>{}</td><td>{}</td></tr>", rows)
        head = "<thead><tr><th>Field</th><th>Before</th><th>After</th></tr></thead>"
        return format_html(f"<table>{head}<tbody>{{}}</tbody></table>", lines)

    @admin.display(description="checksum")
    def hash(self, entry: AuditEntry) -> str:
        return bytes(entry.checksum or b"").hex()


def _text(value: Any) -> str:
    if value is _NOT_THERE:
        return ""
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
