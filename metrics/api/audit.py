"""The audit log, for admins. `manage.py verify_audit` checks its checksum chain."""

from rest_framework import serializers

from metrics.api import examples
from metrics.models import AuditEntry
from rest.filters import FilterSet, TextFilter, TimeFilter
from rest.openapi import Tag
from rest.resources import Action, Resource, describe


class AuditEntrySerializer(serializers.ModelSerializer[AuditEntry]):
    before = serializers.DictField(source="was", help_text="Values before the change, of the changed fields.")
    after = serializers.DictField(source="became", help_text="Values after the change.")
    checksum = serializers.SerializerMethodField(help_text="SHA-256 of this entry and all entries before it.")

    class Meta:
        model = AuditEntry
        fields = (
            "number", "at", "actor", "request_id", "address", "action", "object_type", "object_id", "before", "after",
            "checksum",
        )  # fmt: skip
        read_only_fields = fields

    def get_checksum(self, entry: AuditEntry) -> str:
        return bytes(entry.checksum or b"").hex()


class AuditFilters(FilterSet):
    actor = TextFilter(help_text="Caller that made the change: `user:<name>`, `key:<number>:<name>`.")
    action = TextFilter(help_text="Kind of change: `created`, `changed`, `deleted`, …")
    object_type = TextFilter(help_text="Type of the changed object.")
    object_id = TextFilter(help_text="Name or ID of the changed object.")
    request_id = TextFilter(help_text="ID of the request that made the change.")
    since = TimeFilter("at", "gte", help_text="Start of the time range, inclusive.")
    until = TimeFilter("at", "lt", help_text="End of the time range, exclusive.")


@describe(
    Tag.AUDIT,
    list=Action(
        "list_audit",
        "List audit log entries",
        "Returns a page of the audit log, newest first. The checksum of an entry covers all entries before it and the"
        " journal of that time.",
        request={"object_type": "metric definition", "object_id": "temperature"},
        response=examples.AUDIT,
    ),
)
class AuditResource(Resource):
    queryset = AuditEntry.objects.all()
    serializer_class = AuditEntrySerializer
    filterset_class = AuditFilters
    read_scope = "admin"
    rows_field = "entries"
    page_name = "AuditEntries"
