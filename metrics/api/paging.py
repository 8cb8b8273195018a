"""Pages of lists: `limit` and `offset` as the PRD has them."""

from typing import Any

from django.db.models import Model, QuerySet
from rest_framework import serializers
from rest_framework.request import Request

MOST = 1000
DEFAULT = 100
FARTHEST = 1_000_000  # an offset makes the database walk past all that is before it


class PageParameters(serializers.Serializer[Any]):
    limit = serializers.IntegerField(min_value=1, max_value=MOST, default=DEFAULT, help_text="Most rows.")
    offset = serializers.IntegerField(min_value=0, max_value=FARTHEST, default=0, help_text="Rows before the first.")


def page(request: Request, found: QuerySet[Any]) -> tuple[list[Any], dict[str, Any]]:
    """A page of rows, and what to tell of it: how many there are and are here."""
    given = PageParameters(data=request.query_params)
    given.is_valid(raise_exception=True)
    limit, offset = given.validated_data["limit"], given.validated_data["offset"]
    rows: list[Model] = list(found[offset : offset + limit])
    return rows, {"count": len(rows), "total": found.count(), "limit": limit, "offset": offset}
