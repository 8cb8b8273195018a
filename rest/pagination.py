"""Pages of lists: `limit` and `offset` as the PRD has them, or `cursor`, which costs the same however far
it is (where an index has the order of the list).

A cursor says after which row to go on, so rows that come or go meanwhile move no others. It is signed: one that was
not given by this very list, or was changed, is refused.
"""

from typing import Any

from django.core.signing import BadSignature, Signer
from django.db.models import Field, Model, Q, QuerySet
from rest_framework import serializers
from rest_framework.request import Request

MOST = 1000
DEFAULT = 100
FARTHEST = 1_000_000  # an offset makes the database walk past all that is before it

Order = list[tuple["Field[Any, Any]", bool]]  # by which fields, and whether it descends


class PageParameters(serializers.Serializer[Any]):
    limit = serializers.IntegerField(min_value=1, max_value=MOST, default=DEFAULT, help_text="Most rows.")
    offset = serializers.IntegerField(min_value=0, max_value=FARTHEST, default=0, help_text="Rows before the first.")
    cursor = serializers.CharField(
        max_length=4000, allow_null=True, default=None, help_text="The `next_cursor` of the answer before."
    )

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        if attributes["cursor"] is not None and attributes["offset"]:
            raise serializers.ValidationError({"cursor": "goes without offset: it says itself where to go on"})
        return attributes


def page(
    request: Request,
    found: QuerySet[Any],
    parameters: type[PageParameters] = PageParameters,
    counted: int | None = None,
) -> tuple[list[Any], dict[str, Any]]:
    """A page of rows, and what to tell of it: how many there are and are here, and the cursor of the next page.

    `found` is in order of fields of its own model. `counted`: where the counting stops, for lists of which a large part
    may be asked for; `total` is then at most that.
    """
    given = parameters(data=request.query_params)
    given.is_valid(raise_exception=True)
    limit, offset, cursor = (given.validated_data[name] for name in ("limit", "offset", "cursor"))
    order = _order(found)
    signer = Signer(salt=f"page of {found.model._meta.label} by {_names(order)}")
    rest = found.order_by(*_names(order))
    if cursor is not None:
        rest = rest.filter(_after(order, _place(signer, cursor)))
    rows: list[Model] = list(rest[offset : offset + limit + 1])
    more, rows = len(rows) > limit, rows[:limit]
    return rows, {
        "count": len(rows),
        "total": (found.order_by()[:counted] if counted else found).count(),
        "limit": limit,
        "offset": offset,
        "next_cursor": signer.sign_object(_written(order, rows[-1])) if more else None,
    }


def _order(found: QuerySet[Any]) -> Order:
    """The order of the list, made one in which no two rows are equal."""
    meta = found.model._meta
    names = [str(name) for name in found.query.order_by or meta.ordering]
    order: Order = []
    for name in names:
        field = meta.pk if name.lstrip("-") == "pk" else meta.get_field(name.lstrip("-"))
        order.append((field, name.startswith("-")))
    if not any(field.unique and not field.null for field, _ in order):
        order.append((meta.pk, bool(order) and order[-1][1]))
    return order


def _names(order: Order) -> list[str]:
    return [f"-{field.name}" if descends else field.name for field, descends in order]


def _written(order: Order, row: Model) -> list[str | None]:
    """Where a row is in the order."""
    return [None if field.value_from_object(row) is None else field.value_to_string(row) for field, _ in order]


def _place(signer: Signer, cursor: str) -> list[str | None]:
    try:
        found: list[str | None] = signer.unsign_object(cursor)
    except BadSignature:
        raise serializers.ValidationError({"cursor": "the next_cursor of a page of this list is accepted"}) from None
    return found


def _after(order: Order, place: list[str | None]) -> Q:
    """What comes later: further in the first field, or equal there and further in the next."""
    later, equal = Q(pk__in=[]), Q()
    for (field, descends), text in zip(order, place, strict=True):
        value = None if text is None else field.to_python(text)
        later |= equal & _further(field, value, descends)
        equal &= Q(**{f"{field.name}__isnull": True}) if value is None else Q(**{field.name: value})
    return later


def _further(field: "Field[Any, Any]", value: Any, descends: bool) -> Q:
    """PostgreSQL sorts NULL as larger than everything."""
    if value is None:
        return Q(**{f"{field.name}__isnull": False}) if descends else Q(pk__in=[])
    further = Q(**{f"{field.name}__{'lt' if descends else 'gt'}": value})
    return further | Q(**{f"{field.name}__isnull": True}) if field.null and not descends else further
