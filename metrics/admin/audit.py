"""Read-only admin page of the audit."""

import json
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join

from metrics.admin.base import ReadOnlyAdmin
from metrics.audit.model_changes import watched_models
from metrics.models import AuditEntry

_MISSING = object()


class ObjectTypeFilter(admin.SimpleListFilter):
    """Filter by object type. The choices come from the models, since a query for them would scan the table."""

    title = "object type"
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
        "Who changed which object, and how. Entries are never changed or deleted; manage.py verify_audit verifies"
        " their checksums."
    )
    list_display = ("number", "at", "actor", "action", "object_type", "object_id")
    list_filter = ("at", ObjectTypeFilter)
    search_fields = ("actor", "^object_id", "=request_id", "=action")
    sortable_by = ("number",)
    search_help_text = "Part of the actor, beginning of the object ID, an action or a request ID."
    fields = (
        "number", "at", "actor", "action", "object_type", "object_id", "difference", "request_id", "address", "heads",
        "hash",
    )  # fmt: skip

    @admin.display(description="changes")
    def difference(self, entry: AuditEntry) -> str:
        before, after = entry.was, entry.became
        names = list(dict.fromkeys([*before, *after]))
        if not names:
            return "-"
        rows = [(name, _text(before.get(name, _MISSING)), _text(after.get(name, _MISSING))) for name in names]
        lines = format_html_join("", "<tr><th>{}</th><td>{}</td><td>{}</td></tr>", rows)
        head = "<thead><tr><th>Field</th><th>Before</th><th>After</th></tr></thead>"
        return format_html(f"<table>{head}<tbody>{{}}</tbody></table>", lines)

    @admin.display(description="checksum")
    def hash(self, entry: AuditEntry) -> str:
        return bytes(entry.checksum or b"").hex()


def _text(value: Any) -> str:
    if value is _MISSING:
        return ""
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
