"""Deletions of devices: how far they are."""

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from metrics.api import examples
from metrics.api.answers import Page
from metrics.devices.delete_device import visible_deletions
from metrics.models import Deletion
from rest.openapi import Tag, operation
from rest.pagination import PageParameters, page
from rest.permissions import caller


@extend_schema_serializer(component_name="Deletion")
class DeletionSerializer(serializers.ModelSerializer[Deletion]):
    incomplete = serializers.ListField(
        child=serializers.CharField(), help_text="Damaged blocks that may still hold points of it."
    )

    class Meta:
        model = Deletion
        fields = (
            "deletion_id", "device_id", "status", "progress", "points", "incomplete", "requested_by", "created_at",
            "started_at", "finished_at",
        )  # fmt: skip
        extra_kwargs = {"progress": {"help_text": "From 0 to 1."}}


class Deletions(Page):
    deletions = DeletionSerializer(many=True)


class DeletionsView(APIView):
    @operation(
        "list_deletions",
        "Deletions of devices, newest first",
        tag=Tag.DEVICES,
        description="Whoever sees some device groups alone is told of those that it asked for itself.",
        query=PageParameters,
        answer=Deletions,
        answered={
            "deletions": [examples.DELETION],
            "count": 1,
            "total": 1,
            "limit": 100,
            "offset": 0,
            "next_cursor": None,
        },
    )
    def get(self, request: Request) -> Response:
        rows, told = page(request, visible_deletions(caller(request)))
        return Response({"deletions": DeletionSerializer(rows, many=True).data, **told})


class DeletionView(APIView):
    @operation(
        "get_deletion",
        "How far a deletion is",
        tag=Tag.DEVICES,
        description="`queued` until the last commits with its points are merged, `running` while they are taken out,"
        " `ending` until those commits are dropped, `done`.",
        answer=DeletionSerializer,
        errors=(404,),
        answered=examples.DELETION,
    )
    def get(self, request: Request, deletion_id: str) -> Response:
        found = visible_deletions(caller(request)).filter(deletion_id=deletion_id.replace("\0", "")).first()
        if found is None:
            raise NotFound(f"{deletion_id} is not known")
        return Response(DeletionSerializer(found).data)
