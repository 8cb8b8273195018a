"""`POST /telemetry/collect`: a worker takes a snapshot of its machine, stored in the journal under its id."""

import secrets
from typing import Any

from celery.exceptions import OperationalError
from django.conf import settings
from rest_framework import serializers, status
from rest_framework.exceptions import APIException, NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from ingest.batch_ids import read_stored_batch
from ingest.tasks import collect_host
from metrics.models import Device
from metrics.storage.errors import StorageUnavailable
from metrics.storage.merge.retention import BATCH_ID_RETENTION_DAYS
from rest.caller import Scope
from rest.openapi import Tag, operation
from rest.permissions import caller
from rest.responses import ResponseSerializer

COLLECT_TIMEOUT = 60  # seconds within which a worker has to start


class HostCollectorOff(APIException):
    status_code = status.HTTP_409_CONFLICT
    default_detail = "the host collector is switched off (TELEMETRY_HOST_COLLECTOR=off)"


class WorkersUnavailable(StorageUnavailable):
    """No Celery broker can be reached: 503."""


class CollectingSerializer(ResponseSerializer):
    success = serializers.BooleanField()
    snapshot_id = serializers.CharField(help_text="The `batch_id` of the snapshot in the journal.")
    message = serializers.CharField()


class CollectionSerializer(ResponseSerializer):
    snapshot_id = serializers.CharField()
    device_id = serializers.CharField(help_text="Device of the site's own machine.")
    collected_at = serializers.DateTimeField(help_text="Time the points were stored.")
    points = serializers.IntegerField(help_text="Points that were stored.")
    rejected = serializers.IntegerField(help_text="Points that were rejected.")


class CollectionView(APIView):
    def requested_devices(self, request: Request) -> list[str | None]:
        return [settings.EMBEDDED.host_device_id()]

    @operation(
        "get_collection",
        "Get a snapshot of the site's own machine",
        tag=Tag.STATISTICS,
        description="Returns what was stored of the snapshot with this `snapshot_id`. Its points are those of the"
        " device around `collected_at`. 404 before the worker has stored it; ids are kept for"
        f" {BATCH_ID_RETENTION_DAYS} days.",
        response=CollectionSerializer,
        errors=(404,),
        response_example={
            "snapshot_id": "snap_0123456789abcdef0123",
            "device_id": "host",
            "collected_at": "2025-12-18T10:00:00Z",
            "points": 24,
            "rejected": 0,
        },
    )
    def get(self, request: Request, snapshot_id: str) -> Response:
        device_id = settings.EMBEDDED.host_device_id()
        is_visible = Device.objects.visible_to(caller(request)).filter(device_id=device_id).exists()
        stored = read_stored_batch(device_id, snapshot_id) if is_visible and "\0" not in snapshot_id else None
        if stored is None:
            raise NotFound(f"no snapshot {snapshot_id} is stored; ids are kept for {BATCH_ID_RETENTION_DAYS} days")
        counts = {"points": stored.answer["ingested_count"], "rejected": stored.answer["failed_count"]}
        names = {"snapshot_id": snapshot_id, "device_id": device_id, "collected_at": stored.at}
        return Response(names | counts)


class CollectView(APIView):
    scope_for_changes = Scope.OPERATE

    @operation(
        "collect_now",
        "Take a snapshot of the site's own machine",
        tag=Tag.INGESTION,
        description="A worker immediately collects the metrics that the host collector collects every few seconds. The"
        " points are in the journal under `snapshot_id`, and `GET` with this id returns what was stored. Every request"
        " takes a new snapshot.",
        response=CollectingSerializer,
        status=202,
        errors=(409,),
        response_example={
            "success": True,
            "snapshot_id": "snap_0123456789abcdef0123",
            "message": "a worker takes the snapshot",
        },
    )
    def post(self, request: Request) -> Response:
        if not settings.HOST_COLLECTOR:
            raise HostCollectorOff
        snapshot_id = f"snap_{secrets.token_hex(10)}"
        arguments: tuple[Any, ...] = (snapshot_id, caller(request).name)
        try:
            collect_host.apply_async(arguments, expires=COLLECT_TIMEOUT, retry=False)
        except OperationalError as error:
            raise WorkersUnavailable("no worker can be reached; try again") from error
        body = {"success": True, "snapshot_id": snapshot_id, "message": "a worker takes the snapshot"}
        return Response(body, status.HTTP_202_ACCEPTED)
