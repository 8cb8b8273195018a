"""ETags of configuration: optimistic locking of changes with If-Match, conditional reads with If-None-Match."""

from typing import Any

from rest_framework import status
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response


class PreconditionFailed(APIException):
    status_code = status.HTTP_412_PRECONDITION_FAILED
    default_detail = "the object has changed since it was read: read it again and send If-Match with the new ETag"


def etag(row: Any) -> str:
    """Return the ETag of a row, from its `version` or else from `updated_at`."""
    version = getattr(row, "version", None) or int(row.updated_at.timestamp() * 1_000_000)
    return f'"{row.pk}-{version}"'


def check_match(request: Request, row: Any) -> None:
    """Raise PreconditionFailed if If-Match does not include the ETag of this row."""
    header = request.headers.get("If-Match")
    if header is not None and header.strip() != "*" and etag(row) not in _tags(header):
        raise PreconditionFailed


def respond_with_etag(request: Request, row: Any, body: Any, code: int = status.HTTP_200_OK) -> Response:
    """Return a response with an ETag, or 304 without a body when If-None-Match of a GET names it."""
    tag = etag(row)
    if request.method == "GET" and tag in _tags(request.headers.get("If-None-Match", "")):
        return Response(status=status.HTTP_304_NOT_MODIFIED, headers={"ETag": tag})
    return Response(body, code, headers={"ETag": tag})


def names_etag(header: str, tag: str) -> bool:
    """Return whether an If-None-Match header names an ETag, or any."""
    return header.strip() == "*" or tag.removeprefix("W/") in _tags(header)


def _tags(header: str) -> set[str]:
    return {tag.strip().removeprefix("W/") for tag in header.split(",")}
