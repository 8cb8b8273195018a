"""The body of an error response: RFC 9457 problem details."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from rest import request_context

SERVER_ERROR = "the server failed; the error is in its log"


def problem(status: int, detail: str, errors: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """Return the body of an error as in RFC 9457, with the request ID for finding its log records."""
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "errors": list(errors),
        "request_id": request_context.request_id(),
    }
