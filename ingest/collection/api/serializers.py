"""Collectors and collections as JSON. Secrets are written and never returned."""

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from ingest.collection import lifecycle
from ingest.collection.display import status_of, target_of
from ingest.collection.kinds import KINDS
from ingest.collection.models import Annotation, Collection, Collector
from rest.fields import ChoiceField, MetadataField, StrictSerializer, name_field
from rest.responses import ResponseSerializer


class SecretsField(serializers.DictField):
    """Secrets by name; an empty text removes one."""

    child = serializers.CharField(max_length=lifecycle.MAX_SECRET_LENGTH, allow_blank=True, trim_whitespace=False)


class LastCollectionSerializer(ResponseSerializer):
    """The state of a collector after its last collection."""

    snapshot_id = serializers.CharField(help_text="ID of the last collection.")
    started_at = serializers.DateTimeField(allow_null=True, help_text="Start of the last collection.")
    succeeded_at = serializers.DateTimeField(allow_null=True, help_text="Start of the last one without an error.")
    late_ms = serializers.FloatField(allow_null=True, help_text="Milliseconds from the due time to the start.")
    duration_ms = serializers.FloatField(allow_null=True, help_text="Milliseconds to collect.")
    points = serializers.IntegerField(help_text="Points that were stored.")
    rejected = serializers.IntegerField(help_text="Points that were rejected.")
    error = serializers.CharField(help_text="Why the collection failed; empty if it did not.")
    failures = serializers.IntegerField(help_text="Failed collections in a row.")


@extend_schema_serializer(component_name="Collector")
class CollectorSerializer(StrictSerializer, serializers.ModelSerializer[Collector]):
    name = name_field(help_text="Name; part of the metrics `collector.<name>.up` and `collector.<name>.duration_ms`.")
    kind = ChoiceField([(kind.name, kind.label) for kind in KINDS.values()], help_text="Kind of collector.")
    device_id = name_field(help_text="Device that the points are stored for. It is created with the first point.")
    target = serializers.SerializerMethodField(help_text="Short description of the target.")
    configuration = MetadataField(required=False, help_text="Fields of the kind.")
    secrets = SecretsField(
        required=False,
        write_only=True,
        help_text="Secrets of the kind by name; never returned. Omitted ones are kept; an empty text removes one.",
    )
    secret_names = serializers.SerializerMethodField(help_text="Names of the secrets that are set.")
    interval = serializers.IntegerField(
        min_value=1, max_value=lifecycle.MAX_INTERVAL, required=False, help_text="Seconds between collections."
    )
    jitter = serializers.IntegerField(
        min_value=0,
        max_value=lifecycle.MAX_INTERVAL,
        allow_null=True,
        required=False,
        help_text="Seconds over which the starts of collectors are spread; null: the whole interval.",
    )
    deadline = serializers.IntegerField(
        min_value=1,
        max_value=lifecycle.MAX_DEADLINE,
        required=False,
        help_text="Seconds after which a collection is cut off.",
    )
    status = serializers.SerializerMethodField(help_text="`ok`, `failing`, `waiting` for the first one, or `paused`.")
    due_at = serializers.DateTimeField(source="state.due_at", read_only=True, help_text="Next collection.")
    last = LastCollectionSerializer(source="state", read_only=True, help_text="The last collection.")

    class Meta:
        model = Collector
        fields = (
            "collector_id", "name", "kind", "device_id", "target", "configuration", "secrets", "secret_names",
            "metric_prefix", "interval", "jitter", "deadline", "enabled", "status", "due_at", "last", "created_by",
            "created_at", "updated_at",
        )  # fmt: skip
        read_only_fields = ("collector_id", "created_by", "created_at", "updated_at")

    def get_target(self, collector: Collector) -> str:
        return target_of(collector)

    def get_secret_names(self, collector: Collector) -> list[str]:
        return collector.secret_names

    def get_status(self, collector: Collector) -> str:
        return status_of(collector, timezone.now())


@extend_schema_serializer(component_name="Collection")
class CollectionSerializer(serializers.ModelSerializer[Collection]):
    collector_id = serializers.CharField(source="collector.collector_id")
    collected_at = serializers.DateTimeField(source="started_at", help_text="Start, which is the time of its points.")

    class Meta:
        model = Collection
        fields = (
            "snapshot_id", "collector_id", "device_id", "collected_at", "late_ms", "duration_ms", "points", "rejected",
            "checksum", "error", "requested_by",
        )  # fmt: skip
        read_only_fields = fields


@extend_schema_serializer(component_name="Annotation")
class AnnotationSerializer(serializers.ModelSerializer[Annotation]):
    class Meta:
        model = Annotation
        fields = ("at", "deployment_id", "version", "state")
        read_only_fields = fields


class RequestedSerializer(ResponseSerializer):
    success = serializers.BooleanField()
    snapshot_id = serializers.CharField(help_text="ID of the collection in the journal.")
    message = serializers.CharField()


def collector_fields(validated: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that the lifecycle takes."""
    return {name: value for name, value in validated.items() if name in lifecycle.FIELDS}
