"""The rejected inbox over the API: who sent what that was rejected, why, how often; and once more from the top."""

from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from ingest.models import Rejected
from ingest.rejected.listing import newest_points, replayable, with_kept
from ingest.rejected.replay import replay
from ingest.rejected.retention import discard
from ingest.rejected.shapes import (
    LARGEST_ID,
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
from metrics.api.answers import Done
from metrics.storage.connection import read_connection
from rest.caller import Scope
from rest.openapi import Tag, operation
from rest.pagination import page
from rest.permissions import caller


class RejectedView(APIView):
    """What was rejected, the latest first."""

    @operation(
        "list_rejected",
        "What was rejected: who, what, why and how often",
        tag=Tag.INGESTION,
        description="A row for every sender, device, metric and reason, the latest first, for 30 days. The newest 1,000"
        " points of a row are kept (256 KiB at most, 64 MiB of all rows); of a flood more are counted than kept, and"
        " what cannot be read is counted alone.",
        query=RejectedParameters,
        answer=RejectedAnswer,
        asked={"reason": "out_of_bounds", "limit": 100},
        answered=ROWS,
    )
    def get(self, request: Request) -> Response:
        chosen = RejectedFilter(request.query_params, Rejected.objects.visible_to(caller(request)))
        if not chosen.is_valid():
            raise serializers.ValidationError(chosen.errors)
        rows, told = page(request, with_kept(chosen.qs))
        return Response({"rejected": RejectedRowSerializer(rows, many=True).data, **told})


class RejectedRowView(APIView):
    """One who, what and why, with points as they were sent; deleting it lets go of them."""

    scope_for_changes = Scope.OPERATE

    @operation(
        "get_rejected",
        "A row of the rejected inbox, with points",
        tag=Tag.INGESTION,
        description="The points are shown as they were sent.",
        answer=RejectedRowWithPointsSerializer,
        errors=(404,),
        answered=ROW_WITH_POINTS,
    )
    def get(self, request: Request, number: int) -> Response:
        row: Any = _row(request, number)
        row.points = newest_points(row)
        return Response(RejectedRowWithPointsSerializer(row).data)

    @operation(
        "dismiss_rejected",
        "Let go of a row of the rejected inbox",
        tag=Tag.INGESTION,
        description="Its points are gone for good.",
        answer=Done,
        errors=(404,),
        answered={"success": True, "message": "2 rejected points are dismissed"},
    )
    def delete(self, request: Request, number: int) -> Response:
        row = _row(request, number)
        with read_connection() as connection:
            discard(connection, [row.pk])
        return Response({"success": True, "message": f"{row.count:,} rejected points are dismissed"})


class ReplayRowView(APIView):
    """The kept points of a row through the pipeline, under the definitions of now."""

    scope_for_changes = Scope.OPERATE

    @operation(
        "replay_rejected",
        "Send the points of a row through once more",
        tag=Tag.INGESTION,
        description="They are judged by the definitions of now and stored at the times at which they were measured, in"
        " the name of who sent them and who replays. What passes leaves the inbox. A value that was stored since for"
        " the same time is replaced.",
        answer=ReplayedSerializer,
        errors=(404,),
        answered=REPLAYED,
    )
    def post(self, request: Request, number: int) -> Response:
        row = _row(request, number)
        return Response(replay([row.pk], caller(request)).as_json())


class ReplayView(APIView):
    """The same of all rows that the caller sees, or of a device's, or of a metric's."""

    scope_for_changes = Scope.OPERATE

    @operation(
        "replay_all_rejected",
        "Send the points of many rows through once more",
        tag=Tag.INGESTION,
        description="Of all rows that the caller sees, or of a device's or a metric's. One call takes 10 seconds or"
        " about 50,000 points; where there are more, `next` says where to go on.",
        request=ReplayParameters,
        answer=ReplayedSerializer,
        asked={"device_id": "device_001", "metric_name": "battery_level"},
        answered=REPLAYED,
    )
    def post(self, request: Request) -> Response:
        given = ReplayParameters(data=request.data)
        given.is_valid(raise_exception=True)
        wanted = dict(given.validated_data)
        rows = Rejected.objects.visible_to(caller(request)).filter(pk__gt=wanted.pop("after"), **wanted)
        return Response(replay(replayable(rows), caller(request)).as_json())


def _row(request: Request, number: int) -> Rejected:
    rows = with_kept(Rejected.objects.visible_to(caller(request)))
    row = rows.filter(pk=number).first() if number <= LARGEST_ID else None
    if row is None:
        raise NotFound(f"there is no {number} in the rejected inbox")
    return row
