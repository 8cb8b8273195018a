"""ETags of configuration: nobody overwrites what somebody else has changed meanwhile."""

from typing import Any

from rest_framework import status
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response


class PreconditionFailed(APIException):
    status_code = status.HTTP_412_PRECONDITION_FAILED
    default_detail = "it was changed since you read it: read it again, and send If-Match with its new ETag"


def etag(thing: Any) -> str:
    """The ETag of a row that knows its version, or when it was changed."""
    version = getattr(thing, "version", None) or int(thing.updated_at.timestamp() * 1_000_000)
    return f'"{thing.pk}-{version}"'


def check_match(request: Request, thing: Any) -> None:
    """Raise PreconditionFailed where If-Match names another state than this."""
    named = request.headers.get("If-Match")
    if named is not None and named.strip() != "*" and etag(thing) not in _names(named):
        raise PreconditionFailed


def tagged(request: Request, thing: Any, body: Any, code: int = status.HTTP_200_OK) -> Response:
    """An answer with its ETag; 304 without a body where the caller has it already."""
    tag = etag(thing)
    if request.method == "GET" and tag in _names(request.headers.get("If-None-Match", "")):
        return Response(status=status.HTTP_304_NOT_MODIFIED, headers={"ETag": tag})
    return Response(body, code, headers={"ETag": tag})


def _names(header: str) -> set[str]:
    return {name.strip().removeprefix("W/") for name in header.split(",")}
