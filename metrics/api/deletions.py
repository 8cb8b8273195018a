"""Progress of device deletions."""

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from metrics.api import examples
from metrics.devices.delete_device import visible_deletions
from metrics.models import Deletion
from rest.openapi import Tag
from rest.resources import Action, Resource, describe
from rest.responses import page_example


@extend_schema_serializer(component_name="Deletion")
class DeletionSerializer(serializers.ModelSerializer[Deletion]):
    incomplete = serializers.ListField(
        child=serializers.CharField(), help_text="Damaged blocks that may still contain points of the device."
    )

    class Meta:
        model = Deletion
        fields = (
            "deletion_id", "device_id", "status", "progress", "points", "incomplete", "requested_by", "created_at",
            "started_at", "finished_at",
        )  # fmt: skip
        extra_kwargs = {"progress": {"help_text": "From 0 to 1."}}


@describe(
    Tag.DEVICES,
    list=Action(
        "list_deletions",
        "List deletions of devices",
        "Returns a page of deletions, newest first. Callers that see only some device groups see the deletions that"
        " they requested.",
        response=page_example("deletions", examples.DELETION),
    ),
    retrieve=Action(
        "get_deletion",
        "Get the progress of a deletion",
        "The status is `queued` until the newest commits with points of the device are merged, `running` while its"
        " points are removed, `ending` until these commits are deleted, and then `done`.",
        response=examples.DELETION,
    ),
)
class DeletionResource(Resource):
    serializer_class = DeletionSerializer
    lookup_field = "deletion_id"
    rows_field = "deletions"
    has_etag = False

    def get_queryset(self) -> QuerySet[Deletion]:
        return visible_deletions(self.caller)
