"""Bodies of requests about alerts: what is wrong with one is answered 422, by field."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Model, QuerySet
from rest_framework import serializers, status
from rest_framework.exceptions import APIException, NotFound

from rest.errors import InvalidFields


class Unprocessable(serializers.ValidationError):
    status_code = status.HTTP_422_UNPROCESSABLE_ENTITY


class Conflict(APIException):
    status_code = status.HTTP_409_CONFLICT


def checked(given: serializers.Serializer[Any]) -> dict[str, Any]:
    """What a serializer makes of a body. Raises Unprocessable with everything that is wrong."""
    if not given.is_valid():
        raise Unprocessable(dict(given.errors))
    fields: dict[str, Any] = given.validated_data
    return fields


@contextmanager
def refusing() -> Iterator[None]:
    """Within it, a rule that cannot be evaluated, or anything else that cannot be set up, is told of by field."""
    try:
        yield
    except InvalidFields as error:
        raise Unprocessable(dict(error.fields)) from None


@contextmanager
def unique_name() -> Iterator[None]:
    """A transaction; where somebody else makes a thing of the same name at the same time, the field is told."""
    try:
        with transaction.atomic():
            yield
    except IntegrityError:
        raise Unprocessable({"name": "is taken"}) from None


def found_by(among: QuerySet[Any], **wanted: str) -> Any:
    """The row that is known by an id; what its caller must not see is not among these. Raises NotFound."""
    [(_, value)] = wanted.items()
    row: Model | None = among.filter(**wanted).first() if "\0" not in value else None
    if row is None:
        raise NotFound(f"{value} is not known")
    return row
