"""The audit by HTTP: read alone, by admins. `manage.py verify_audit` says whether it is what it was."""

import django_filters
from rest_framework import serializers
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from metrics.api.paging import page
from metrics.api.permissions import caller
from metrics.models import AuditEntry


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


class AuditFilter(django_filters.FilterSet):
    since = django_filters.IsoDateTimeFilter("at", "gte")
    until = django_filters.IsoDateTimeFilter("at", "lt")

    class Meta:
        model = AuditEntry
        fields = ("actor", "action", "object_type", "object_id", "request_id")


class AuditView(APIView):
    """Who did what to which object, newest first."""

    permission_classes = [MayAudit]

    def get(self, request: Request) -> Response:
        chosen = AuditFilter(request.query_params, AuditEntry.objects.all())
        if not chosen.is_valid():
            raise serializers.ValidationError(chosen.errors)
        rows, told = page(request, chosen.qs)
        return Response({"entries": AuditEntrySerializer(rows, many=True).data, **told})
