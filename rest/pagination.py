"""Pages of lists: by `limit` and `offset`, or by `cursor`, whose cost does not grow with its position in the list.

A cursor names the last row of a page, so rows that are added or deleted meanwhile shift no others. It is signed: a
cursor of another list, or a modified one, is rejected. It is as fast as an index on the order of the list.
"""

from typing import Any

from django.core.signing import BadSignature, Signer
from django.db.models import Field, Model, Q, QuerySet
from rest_framework import serializers
from rest_framework.request import Request

from rest.errors import InvalidField

MAX_LIMIT = 1000
DEFAULT_LIMIT = 100
COUNT_LIMIT = 10_000  # for lists that are too long to be counted for each page
MAX_OFFSET = 1_000_000  # the database reads all rows before the offset

Order = list[tuple["Field[Any, Any]", bool]]  # fields and whether each one descends


class PageQuerySerializer(serializers.Serializer[Any]):
    limit = serializers.IntegerField(
        min_value=1, max_value=MAX_LIMIT, default=DEFAULT_LIMIT, help_text="Maximum number of rows."
    )
    offset = serializers.IntegerField(min_value=0, max_value=MAX_OFFSET, default=0, help_text="Number of rows to skip.")
    cursor = serializers.CharField(
        max_length=4000, allow_null=True, default=None, help_text="`next_cursor` of the previous page."
    )

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        if attributes["cursor"] is not None and attributes["offset"]:
            raise InvalidField("cursor", "cannot be combined with offset")
        return attributes


def page(request: Request, queryset: QuerySet[Any], count_limit: int | None = None) -> tuple[list[Any], dict[str, Any]]:
    """Return a page of rows as a request asks for it; see `paginate`. Raises ValidationError."""
    query = PageQuerySerializer(data=request.query_params)
    query.is_valid(raise_exception=True)
    return paginate(queryset, query, count_limit)


def paginate(
    queryset: QuerySet[Any], query: PageQuerySerializer, count_limit: int | None = None
) -> tuple[list[Any], dict[str, Any]]:
    """Return the rows of a page, and its counts and `next_cursor` for the response.

    The queryset is ordered by fields of its own model; the primary key is appended where the order is not unique.
    `count_limit` is an upper bound of `total`, for lists that are long.
    """
    limit, offset, cursor = (query.validated_data[name] for name in ("limit", "offset", "cursor"))
    order = _unique_order(queryset)
    signer = Signer(salt=f"page of {queryset.model._meta.label} by {_field_names(order)}")
    remaining = queryset.order_by(*_field_names(order))
    if cursor is not None:
        remaining = remaining.filter(_after(order, _read_cursor(signer, cursor)))
    rows: list[Model] = list(remaining[offset : offset + limit + 1])
    has_more, rows = len(rows) > limit, rows[:limit]
    return rows, {
        "count": len(rows),
        "total": (queryset.order_by()[:count_limit] if count_limit else queryset).count(),
        "limit": limit,
        "offset": offset,
        "next_cursor": signer.sign_object(_position(order, rows[-1])) if has_more else None,
    }


def _unique_order(queryset: QuerySet[Any]) -> Order:
    """Return the order of a list, with the primary key appended unless a field of it is unique."""
    meta = queryset.model._meta
    names = [str(name) for name in queryset.query.order_by or meta.ordering]
    order: Order = []
    for name in names:
        field = meta.pk if name.lstrip("-") == "pk" else meta.get_field(name.lstrip("-"))
        order.append((field, name.startswith("-")))
    if not any(field.unique and not field.null for field, _ in order):
        order.append((meta.pk, bool(order) and order[-1][1]))
    return order


def _field_names(order: Order) -> list[str]:
    return [f"-{field.name}" if descends else field.name for field, descends in order]


def _position(order: Order, row: Model) -> list[str | None]:
    """Return the position of a row in the order: its values of the fields, as text."""
    return [None if field.value_from_object(row) is None else field.value_to_string(row) for field, _ in order]


def _read_cursor(signer: Signer, cursor: str) -> list[str | None]:
    try:
        position: list[str | None] = signer.unsign_object(cursor)
    except BadSignature:
        raise serializers.ValidationError({"cursor": "must be the next_cursor of a page of this list"}) from None
    return position


def _after(order: Order, position: list[str | None]) -> Q:
    """Match the rows after a position: later in the first field, or equal there and later in the next."""
    after, equal = Q(pk__in=[]), Q()
    for (field, descends), text in zip(order, position, strict=True):
        value = None if text is None else field.to_python(text)
        after |= equal & _later(field, value, descends)
        equal &= Q(**{f"{field.name}__isnull": True}) if value is None else Q(**{field.name: value})
    return after


def _later(field: "Field[Any, Any]", value: Any, descends: bool) -> Q:
    """Match the rows with a later value; PostgreSQL sorts NULL after all others."""
    if value is None:
        return Q(**{f"{field.name}__isnull": False}) if descends else Q(pk__in=[])
    later = Q(**{f"{field.name}__{'lt' if descends else 'gt'}": value})
    return later | Q(**{f"{field.name}__isnull": True}) if field.null and not descends else later
