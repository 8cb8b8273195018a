"""Queries of the rejected inbox: rows with their number of replayable points, and the newest points of a row."""

from collections.abc import Iterator
from typing import Any

from django.db.models import Exists, IntegerField, OuterRef, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce

from ingest.models import Rejected, RejectedPacket
from ingest.rejected.point_packets import RejectedPoint, unpack
from metrics.storage.format.contexts import read_context
from metrics.storage.units import to_datetime

SHOWN_POINTS = 100


def with_kept_counts(rows: QuerySet[Rejected]) -> QuerySet[Rejected]:
    """Annotate rows with `kept`, the number of points that can be replayed."""
    packets = RejectedPacket.objects.filter(rejected=OuterRef("pk")).order_by().values("rejected")
    kept = Subquery(packets.annotate(kept=Sum("points")).values("kept"), output_field=IntegerField())
    return rows.annotate(kept=Coalesce(kept, 0))


def replayable_ids(rows: QuerySet[Rejected]) -> Iterator[int]:
    """Yield the ids of rows with points to replay, in ascending order."""
    packets = RejectedPacket.objects.filter(rejected=OuterRef("pk"))
    return rows.filter(Exists(packets)).order_by("pk").values_list("pk", flat=True).iterator(chunk_size=500)


def newest_points(row: Rejected) -> list[dict[str, Any]]:
    """Return the newest points of a row as they were sent, the newest last."""
    points: list[RejectedPoint] = []
    for packet in row.packets.order_by("-pk")[:SHOWN_POINTS]:
        points = unpack(bytes(packet.payload)) + points
        if len(points) >= SHOWN_POINTS:
            break
    shown = []
    for point in points[-SHOWN_POINTS:]:
        unit, tags, metadata = read_context(point.context)
        timestamp = to_datetime(point.time)
        shown.append({"timestamp": timestamp, "value": point.value, "unit": unit, "tags": tags, "metadata": metadata})
    return shown
