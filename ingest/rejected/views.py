"""The rejected inbox in the API: list, read, dismiss and replay rejected points."""

from typing import Any

from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from ingest.models import Rejected
from ingest.rejected.listing import newest_points, replayable_ids, with_kept_counts
from ingest.rejected.replay import replay
from ingest.rejected.retention import delete_rows
from ingest.rejected.serializers import (
    REPLAYED,
    ROW_WITH_POINTS,
    ROWS,
    RejectedFilters,
    RejectedRowSerializer,
    RejectedRowWithPointsSerializer,
    ReplayedSerializer,
    ReplayParameters,
)
from metrics.storage.connection import read_connection
from rest.caller import Scope
from rest.openapi import Tag, operation
from rest.resources import Action, Resource, describe


@describe(
    Tag.INGESTION,
    list=Action(
        "list_rejected",
        "List rejected points",
        "A row for each sender, device, metric and reason, the latest first, for 30 days. The newest 1,000 points of a"
        " row are kept for replay (at most 256 KiB, and 64 MiB of all rows). Points beyond these limits and requests"
        " that cannot be decoded are only counted.",
        request={"reason": "out_of_bounds", "limit": 100},
        response=ROWS,
    ),
    retrieve=Action(
        "get_rejected",
        "Get a row of the rejected inbox with its points",
        "The points are returned as they were sent.",
        response=ROW_WITH_POINTS,
    ),
    destroy=Action(
        "dismiss_rejected",
        "Dismiss a row of the rejected inbox",
        "The row and its points are deleted permanently.",
        response={"success": True, "message": "2 rejected points dismissed"},
    ),
)
class RejectedResource(Resource):
    """The rows of the inbox, the latest first."""

    serializer_class = RejectedRowSerializer
    detail_serializer_class = RejectedRowWithPointsSerializer
    filterset_class = RejectedFilters
    lookup_field = "pk"
    lookup_url_kwarg = "number"
    rows_field = "rejected"
    page_name = "RejectedAnswer"
    has_etag = False
    write_scope = Scope.OPERATE
    not_found_message = "the rejected inbox has no row {}"

    def get_queryset(self) -> QuerySet[Rejected]:
        return with_kept_counts(Rejected.objects.visible_to(self.caller))

    def retrieve(self, request: Request, **names: Any) -> Response:
        row: Any = self.get_object()
        row.points = newest_points(row)
        return Response(RejectedRowWithPointsSerializer(row).data)

    def destroy(self, request: Request, **names: Any) -> Response:
        """Delete a row through the connection of the storage engine, which locks it."""
        row = self.get_object()
        with read_connection() as connection:
            delete_rows(connection, [row.pk])
        return self.respond_deleted(row, None)

    def deleted_message(self, row: Rejected) -> str:
        return f"{row.count:,} rejected points dismissed"

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
    def replay(self, request: Request, number: int) -> Response:
        return Response(replay([self.get_object().pk], self.caller).as_json())

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
    def replay_all(self, request: Request) -> Response:
        filters = dict(self.validate(ReplayParameters(data=request.data)))
        rows = Rejected.objects.visible_to(self.caller).filter(pk__gt=filters.pop("after"), **filters)
        return Response(replay(replayable_ids(rows), self.caller).as_json())
