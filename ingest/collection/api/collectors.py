"""Collectors and the journal of their collections."""

from typing import Any

from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from ingest.collection import lifecycle
from ingest.collection.api.serializers import (
    AnnotationSerializer,
    CollectionSerializer,
    CollectorSerializer,
    RequestedSerializer,
    collector_fields,
)
from ingest.collection.kinds import KINDS
from ingest.collection.models import Annotation, Collection, Collector
from metrics.models import Device
from rest.caller import Scope
from rest.filters import BooleanFilter, ChoiceFilter, FilterSet, SearchFilter, TextFilter
from rest.openapi import Tag, operation
from rest.pagination import COUNT_LIMIT
from rest.resources import Action, Resource, describe, get_row
from rest.responses import page_example

_NEW = {
    "name": "shop front page",
    "kind": "http",
    "device_id": "shop",
    "configuration": {"url": "https://shop.example.com/", "body_contains": "Welcome"},
    "secrets": {"bearer_token": "s3cret"},
    "interval": 30,
}
_COLLECTION: dict[str, Any] = {
    "snapshot_id": "snap_0123456789abcdef01",
    "collector_id": "col_0123456789abcdef",
    "device_id": "shop",
    "collected_at": "2025-12-18T10:00:00Z",
    "late_ms": 84.2,
    "duration_ms": 131.7,
    "points": 4,
    "rejected": 0,
    "checksum": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "error": "",
    "requested_by": "",
}
_COLLECTOR: dict[str, Any] = {name: value for name, value in _NEW.items() if name != "secrets"} | {
    "collector_id": "col_0123456789abcdef",
    "target": "https://shop.example.com/",
    "configuration": {
        "url": "https://shop.example.com/", "method": "GET", "expected_status": None, "body_contains": "Welcome",
        "username": "", "verify_tls": True,
    },
    "secret_names": ["bearer_token"],
    "metric_prefix": "",
    "jitter": None,
    "deadline": 10,
    "enabled": True,
    "status": "ok",
    "due_at": "2025-12-18T10:00:30Z",
    "last": {
        "snapshot_id": "snap_0123456789abcdef01", "started_at": "2025-12-18T10:00:00Z",
        "succeeded_at": "2025-12-18T10:00:00Z", "late_ms": 84.2, "duration_ms": 131.7, "points": 4, "rejected": 0,
        "error": "", "failures": 0,
    },
    "created_by": "user:ann",
    "created_at": "2025-12-18T09:00:00Z",
    "updated_at": "2025-12-18T09:00:00Z",
}  # fmt: skip
_ANNOTATION = {"at": "2025-12-18T10:00:00Z", "deployment_id": "d-17", "version": "1.4.2", "state": "completed"}


class CollectorFilters(FilterSet):
    kind = ChoiceFilter(choices=[(kind.name, kind.label) for kind in KINDS.values()], help_text="Kind.")
    device_id = TextFilter(help_text="Device.")
    enabled = BooleanFilter(help_text="Whether the collector is enabled.")
    failing = BooleanFilter(method="filter_failing", help_text="Whether the last collection failed.")
    search = SearchFilter("name__icontains", "device_id__icontains", help_text="Text in the name or the device.")

    def filter_failing(self, queryset: QuerySet[Collector], _: str, failing: bool) -> QuerySet[Collector]:
        return queryset.exclude(state__error="") if failing else queryset.filter(state__error="")


@describe(
    Tag.COLLECTORS,
    list=Action(
        "list_collectors",
        "List collectors",
        "Returns a page of the collectors of visible devices, sorted by name, with their state.",
        request={"kind": "http", "failing": True},
        response=page_example("collectors", _COLLECTOR, filters={"kind": "http"}),
    ),
    create=Action(
        "create_collector",
        "Create a collector",
        "The fields of `configuration` and the names of `secrets` depend on the kind. Private addresses are rejected"
        " unless TELEMETRY_ALLOW_PRIVATE_COLLECTORS allows their network.",
        request=_NEW,
        response=_COLLECTOR,
    ),
    retrieve=Action("get_collector", "Get a collector", "Secrets are never returned.", response=_COLLECTOR),
    partial_update=Action(
        "update_collector",
        "Change a collector",
        "Omitted fields, including secrets, keep their values. `configuration` is replaced as a whole.",
        request={"enabled": False},
        response=_COLLECTOR | {"enabled": False, "status": "paused"},
    ),
    destroy=Action(
        "delete_collector",
        "Delete a collector",
        "Deletes the collector and its journal. Its points are kept.",
        response={"success": True, "message": "shop front page is deleted"},
    ),
)
class CollectorResource(Resource):
    serializer_class = CollectorSerializer
    filterset_class = CollectorFilters
    lookup_field = "collector_id"
    rows_field = "collectors"
    echo_filters = "sent"
    action_scopes = {"run": Scope.OPERATE}

    def get_queryset(self) -> QuerySet[Collector]:
        return Collector.objects.visible_to(self.caller).select_related("state")

    def perform_create(self, serializer: Any) -> Collector:
        return lifecycle.create_collector(collector_fields(serializer.validated_data), self.caller.name)

    def perform_update(self, serializer: Any) -> Collector:
        return lifecycle.change_collector(serializer.instance, collector_fields(serializer.validated_data))

    @operation(
        "run_collector",
        "Run a collector now",
        tag=Tag.COLLECTORS,
        description="A worker collects at once, also while the collector is disabled. The result is in the journal"
        " under `snapshot_id`. A request that no worker has started yet is returned again.",
        response=RequestedSerializer,
        status=202,
        errors=(404,),
        response_example={
            "success": True,
            "snapshot_id": "snap_0123456789abcdef01",
            "message": "a worker collects shop front page",
        },
    )
    def run(self, request: Request, collector_id: str) -> Response:
        collector = self.get_object()
        snapshot_id = lifecycle.request_collection(collector, self.caller.name)
        message = f"a worker collects {collector.name}"
        return Response({"success": True, "snapshot_id": snapshot_id, "message": message}, 202)


class CollectionFilters(FilterSet):
    failed = BooleanFilter(method="filter_failed", help_text="Whether the collection failed.")

    def filter_failed(self, queryset: QuerySet[Collection], _: str, failed: bool) -> QuerySet[Collection]:
        return queryset.exclude(error="") if failed else queryset.filter(error="")


@describe(
    Tag.COLLECTORS,
    list=Action(
        "list_collections",
        "List the collections of a collector",
        f"Returns a page of the journal, newest first. `total` is at most {COUNT_LIMIT:,}.",
        request={"failed": True},
        response=page_example("collections", _COLLECTION, filters={"failed": "true"}),
    ),
)
class CollectionResource(Resource):
    serializer_class = CollectionSerializer
    filterset_class = CollectionFilters
    rows_field = "collections"
    echo_filters = "sent"
    count_limit = COUNT_LIMIT
    is_nested = True

    def get_queryset(self) -> QuerySet[Collection]:
        visible = Collector.objects.visible_to(self.caller)
        collector = get_row(visible, collector_id=self.kwargs.get("collector_id"))
        return collector.collections.select_related("collector")


@describe(
    Tag.DEVICES,
    list=Action(
        "list_device_annotations",
        "List the annotations of a device",
        "Returns a page of the states that deployments to the device reached, newest first, as charts show them.",
        request={},
        response=page_example("annotations", _ANNOTATION),
    ),
)
class AnnotationResource(Resource):
    serializer_class = AnnotationSerializer
    rows_field = "annotations"
    count_limit = COUNT_LIMIT
    is_nested = True

    def get_queryset(self) -> QuerySet[Annotation]:
        device = get_row(Device.objects.visible_to(self.caller), device_id=self.kwargs.get("device_id"))
        return Annotation.objects.filter(device_id=device.device_id)
