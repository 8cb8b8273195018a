"""The audit by HTTP: read alone, by admins. `manage.py verify_audit` says whether it is what it was."""

from datetime import UTC, datetime
from typing import Any

import django_filters
from django.core.exceptions import ValidationError
from django_filters.fields import IsoDateTimeField
from rest_framework import serializers
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from metrics.api import examples
from metrics.api.answers import Page
from metrics.models import AuditEntry
from rest.openapi import Tag, operation
from rest.pagination import PageParameters, page
from rest.permissions import caller


class MayAudit(BasePermission):
    """Admins, be they people or keys: the audit tells of what others may not see."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return bool(request.user and request.user.is_authenticated and caller(request).may("admin"))


class AuditEntrySerializer(serializers.ModelSerializer[AuditEntry]):
    before = serializers.DictField(source="was", help_text="What was there before; of a change what it concerns.")
    after = serializers.DictField(source="became", help_text="What is there since.")
    checksum = serializers.SerializerMethodField(help_text="SHA-256, which covers every entry up to this one.")

    class Meta:
        model = AuditEntry
        fields = (
            "number", "at", "actor", "request_id", "address", "action", "object_type", "object_id", "before", "after",
            "checksum",
        )  # fmt: skip
        read_only_fields = fields

    def get_checksum(self, entry: AuditEntry) -> str:
        return bytes(entry.checksum or b"").hex()


class AuditParameters(PageParameters):
    """What entries are chosen by, for the description of the API; AuditFilter heeds it."""

    actor = serializers.CharField(required=False, help_text="Who did it: `user:<name>`, `key:<number>:<name>`, …")
    action = serializers.CharField(required=False, help_text="What was done: `created`, `changed`, `deleted`, …")
    object_type = serializers.CharField(required=False, help_text="To which kind of object.")
    object_id = serializers.CharField(required=False, help_text="To which one, by the name that it is known by.")
    request_id = serializers.CharField(required=False, help_text="By which request.")
    since = serializers.DateTimeField(required=False, help_text="From here on.")
    until = serializers.DateTimeField(required=False, help_text="To before here.")


class AuditEntries(Page):
    entries = AuditEntrySerializer(many=True)


class MomentField(IsoDateTimeField):
    """A time with an offset, as UTC: Python takes offsets of up to a day, PostgreSQL of less than sixteen hours."""

    def to_python(self, value: Any) -> datetime | None:
        found = super().to_python(value)
        try:
            return None if found is None else found.astimezone(UTC)
        except OverflowError:
            raise ValidationError("a time between the years 1 and 9999 is accepted") from None


class MomentFilter(django_filters.IsoDateTimeFilter):
    field_class = MomentField


class AuditFilter(django_filters.FilterSet):
    since = MomentFilter("at", "gte")
    until = MomentFilter("at", "lt")

    class Meta:
        model = AuditEntry
        fields = ("actor", "action", "object_type", "object_id", "request_id")


class AuditView(APIView):
    """Who did what to which object, newest first."""

    permission_classes = [MayAudit]

    @operation(
        "list_audit",
        "Who did what",
        tag=Tag.AUDIT,
        description="Entries of the audit, newest first. Each covers all before it, and the journal of that time.",
        query=AuditParameters,
        answer=AuditEntries,
        asked={"object_type": "metric definition", "object_id": "temperature"},
        answered=examples.AUDIT,
    )
    def get(self, request: Request) -> Response:
        chosen = AuditFilter(request.query_params, AuditEntry.objects.all())
        if not chosen.is_valid():
            raise serializers.ValidationError(chosen.errors)
        rows, told = page(request, chosen.qs)
        return Response({"entries": AuditEntrySerializer(rows, many=True).data, **told})
