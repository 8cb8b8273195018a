"""`POST /telemetry/collect`: workers collect now, and `GET` with the ID of a snapshot returns what was stored."""

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
from ingest.collection.api.serializers import CollectionSerializer
from ingest.collection.lifecycle import request_collection
from ingest.collection.models import Collection, Collector
from ingest.collection.retention import MAX_COLLECTIONS
from ingest.tasks import collect_host
from metrics.models import Device
from metrics.storage.errors import StorageUnavailable
from metrics.storage.merge.retention import BATCH_ID_RETENTION_DAYS
from rest.caller import Scope
from rest.openapi import Tag, operation
from rest.permissions import caller
from rest.responses import ResponseSerializer

COLLECT_TIMEOUT = 60  # seconds within which a worker has to start


class NothingToCollect(APIException):
    status_code = status.HTTP_409_CONFLICT
    default_detail = "the host collector is switched off (TELEMETRY_HOST_COLLECTOR=off) and no collector is enabled"


class WorkersUnavailable(StorageUnavailable):
    """No Celery broker can be reached: 503."""


class RequestedCollectorSerializer(ResponseSerializer):
    collector_id = serializers.CharField()
    name = serializers.CharField()
    snapshot_id = serializers.CharField()


class CollectingSerializer(ResponseSerializer):
    success = serializers.BooleanField()
    snapshot_id = serializers.CharField(
        help_text="Snapshot of the site's own machine; of the first collector if the host collector is off."
    )
    collectors = RequestedCollectorSerializer(many=True, help_text="The enabled collectors, which collect too.")
    message = serializers.CharField()


class SnapshotSerializer(ResponseSerializer):
    snapshot_id = serializers.CharField()
    collector_id = serializers.CharField(help_text="Collector; empty for snapshots of the site's own machine.")
    device_id = serializers.CharField(help_text="Device that the points are stored for.")
    collected_at = serializers.DateTimeField(help_text="Time of the collection.")
    points = serializers.IntegerField(help_text="Points that were stored.")
    rejected = serializers.IntegerField(help_text="Points that were rejected.")
    late_ms = serializers.FloatField(required=False, help_text="Milliseconds from the due time to the start.")
    duration_ms = serializers.FloatField(required=False, help_text="Milliseconds to collect.")
    checksum = serializers.CharField(required=False, help_text="SHA-256 of the collected points.")
    error = serializers.CharField(required=False, help_text="Why the collection failed; empty if it did not.")
    requested_by = serializers.CharField(
        required=False, help_text="User or key that requested it; empty for scheduled collections."
    )


class CollectionView(APIView):
    def requested_devices(self, request: Request) -> list[str | None]:
        return [None]

    @operation(
        "get_collection",
        "Get a collection",
        tag=Tag.COLLECTORS,
        description="Returns what was stored of the collection with this `snapshot_id`, of any collector or of the"
        " site's own machine, for which the fields about the collector are left out. 404 before a worker has stored it."
        f" The newest {MAX_COLLECTIONS:,} collections of each collector are kept, and snapshots of the site's own"
        f" machine for {BATCH_ID_RETENTION_DAYS} days.",
        response=SnapshotSerializer,
        errors=(404,),
        response_example={
            "snapshot_id": "snap_0123456789abcdef01",
            "collector_id": "",
            "device_id": "host",
            "collected_at": "2025-12-18T10:00:00Z",
            "points": 24,
            "rejected": 0,
        },
    )
    def get(self, request: Request, snapshot_id: str) -> Response:
        body = None if "\0" in snapshot_id else _find_collection(request, snapshot_id)
        if body is None:
            raise NotFound(f"no snapshot {snapshot_id} is stored; only the newest are kept")
        return Response(body)


def _find_collection(request: Request, snapshot_id: str) -> dict[str, Any] | None:
    visible = Collection.objects.visible_to(caller(request)).select_related("collector")
    row = visible.filter(snapshot_id=snapshot_id).first()
    return _find_host_snapshot(request, snapshot_id) if row is None else dict(CollectionSerializer(row).data)


def _find_host_snapshot(request: Request, snapshot_id: str) -> dict[str, Any] | None:
    device_id = settings.EMBEDDED.host_device_id()
    if not Device.objects.visible_to(caller(request)).filter(device_id=device_id).exists():
        return None
    stored = read_stored_batch(device_id, snapshot_id)
    if stored is None:
        return None
    counts = {"points": stored.answer["ingested_count"], "rejected": stored.answer["failed_count"]}
    names = {"snapshot_id": snapshot_id, "collector_id": "", "device_id": device_id, "collected_at": stored.at}
    return names | counts


class CollectView(APIView):
    scope_for_changes = Scope.OPERATE

    @operation(
        "collect_now",
        "Collect now",
        tag=Tag.COLLECTORS,
        description="A worker takes a snapshot of the site's own machine, and workers run each enabled collector whose"
        " device the caller sees. `GET` with a `snapshot_id` returns what was stored.",
        response=CollectingSerializer,
        status=202,
        errors=(409,),
        response_example={
            "success": True,
            "snapshot_id": "snap_0123456789abcdef0123",
            "collectors": [
                {
                    "collector_id": "col_0123456789abcdef",
                    "name": "shop front page",
                    "snapshot_id": "snap_0123456789abcdef01",
                }
            ],
            "message": "workers collect",
        },
    )
    def post(self, request: Request) -> Response:
        by = caller(request).name
        enabled = Collector.objects.visible_to(caller(request)).filter(enabled=True)
        if not settings.HOST_COLLECTOR and not enabled.exists():
            raise NothingToCollect
        snapshot_id = _collect_host(by) if settings.HOST_COLLECTOR else ""
        requested = [
            {"collector_id": row.collector_id, "name": row.name, "snapshot_id": request_collection(row, by)}
            for row in enabled
        ]
        body = {
            "success": True,
            "snapshot_id": snapshot_id or requested[0]["snapshot_id"],
            "collectors": requested,
            "message": "workers collect",
        }
        return Response(body, status.HTTP_202_ACCEPTED)


def _collect_host(by: str) -> str:
    """Ask a worker for a snapshot of its machine; return its ID. Raises WorkersUnavailable."""
    snapshot_id = f"snap_{secrets.token_hex(10)}"
    try:
        collect_host.apply_async((snapshot_id, by), expires=COLLECT_TIMEOUT, retry=False)
    except OperationalError as error:
        raise WorkersUnavailable("no worker can be reached; try again") from error
    return snapshot_id
