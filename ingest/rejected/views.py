"""The rejected inbox in the API: list, read, dismiss and replay rejected points."""

from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from ingest.models import Rejected
from ingest.rejected.listing import newest_points, replayable_ids, with_kept_counts
from ingest.rejected.replay import replay
from ingest.rejected.retention import delete_rows
from ingest.rejected.serializers import (
    MAX_ID,
    REPLAYED,
    ROW_WITH_POINTS,
    ROWS,
    RejectedAnswer,
    RejectedFilter,
    RejectedParameters,
    RejectedRowSerializer,
    RejectedRowWithPointsSerializer,
    ReplayedSerializer,
    ReplayParameters,
)
from metrics.storage.connection import read_connection
from rest.caller import Scope
from rest.openapi import Tag, operation
from rest.pagination import page
from rest.permissions import caller
from rest.responses import SuccessSerializer


class RejectedView(APIView):
    """The rows of the inbox, the latest first."""

    @operation(
        "list_rejected",
        "List rejected points",
        tag=Tag.INGESTION,
        description="A row for each sender, device, metric and reason, the latest first, for 30 days. The newest 1,000"
        " points of a row are kept for replay (at most 256 KiB, and 64 MiB of all rows). Points beyond these limits"
        " and requests that cannot be decoded are only counted.",
        query=RejectedParameters,
        response=RejectedAnswer,
        request_example={"reason": "out_of_bounds", "limit": 100},
        response_example=ROWS,
    )
    def get(self, request: Request) -> Response:
        selection = RejectedFilter(request.query_params, Rejected.objects.visible_to(caller(request)))
        if not selection.is_valid():
            raise serializers.ValidationError(selection.errors)
        rows, page_fields = page(request, with_kept_counts(selection.qs))
        return Response({"rejected": RejectedRowSerializer(rows, many=True).data, **page_fields})


class RejectedRowView(APIView):
    """One row with its newest points. Deleting it also deletes its points."""

    scope_for_changes = Scope.OPERATE

    @operation(
        "get_rejected",
        "Get a row of the rejected inbox with its points",
        tag=Tag.INGESTION,
        description="The points are returned as they were sent.",
        response=RejectedRowWithPointsSerializer,
        errors=(404,),
        response_example=ROW_WITH_POINTS,
    )
    def get(self, request: Request, number: int) -> Response:
        row: Any = _row(request, number)
        row.points = newest_points(row)
        return Response(RejectedRowWithPointsSerializer(row).data)

    @operation(
        "dismiss_rejected",
        "Dismiss a row of the rejected inbox",
        tag=Tag.INGESTION,
        description="The row and its points are deleted permanently.",
        response=SuccessSerializer,
        errors=(404,),
        response_example={"success": True, "message": "2 rejected points dismissed"},
    )
    def delete(self, request: Request, number: int) -> Response:
        row = _row(request, number)
        with read_connection() as connection:
            delete_rows(connection, [row.pk])
        return Response({"success": True, "message": f"{row.count:,} rejected points dismissed"})


class ReplayRowView(APIView):
    """Replay of the points of one row."""

    scope_for_changes = Scope.OPERATE

    @operation(
        "replay_rejected",
        "Replay the points of a row",
        tag=Tag.INGESTION,
        description="The points are validated against the current metric definitions and stored with their original"
        " timestamps. The journal names the original sender and the caller. Stored points leave the inbox. A value"
        " that has been stored for the same time meanwhile is replaced.",
        response=ReplayedSerializer,
        errors=(404,),
        response_example=REPLAYED,
    )
    def post(self, request: Request, number: int) -> Response:
        row = _row(request, number)
        return Response(replay([row.pk], caller(request)).as_json())


class ReplayView(APIView):
    """Replay of all visible rows, or of those of a device or a metric."""

    scope_for_changes = Scope.OPERATE

    @operation(
        "replay_all_rejected",
        "Replay the points of many rows",
        tag=Tag.INGESTION,
        description="Replays all rows that the caller sees, or those of a device or a metric. One call stops after 10"
        " seconds or about 50,000 points; if rows are left, send `next` as `after` in the next call.",
        request=ReplayParameters,
        response=ReplayedSerializer,
        request_example={"device_id": "device_001", "metric_name": "battery_level"},
        response_example=REPLAYED,
    )
    def post(self, request: Request) -> Response:
        parameters = ReplayParameters(data=request.data)
        parameters.is_valid(raise_exception=True)
        filters = dict(parameters.validated_data)
        rows = Rejected.objects.visible_to(caller(request)).filter(pk__gt=filters.pop("after"), **filters)
        return Response(replay(replayable_ids(rows), caller(request)).as_json())


def _row(request: Request, number: int) -> Rejected:
    rows = with_kept_counts(Rejected.objects.visible_to(caller(request)))
    row = rows.filter(pk=number).first() if number <= MAX_ID else None
    if row is None:
        raise NotFound(f"the rejected inbox has no row {number}")
    return row
