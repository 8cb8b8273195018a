"""The one place where an exception becomes an answer: RFC 9457 with the PRD's `detail` in it."""

import logging
import sys
from collections.abc import Callable
from typing import Any

from django.db import OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.views import defaults
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.response import Response
from rest_framework.views import exception_handler

from metrics.error_responses import EXPECTED_ERRORS, ErrorResponse, error_response
from metrics.storage.errors import StorageError
from rest.problem import SERVER_ERROR, problem

log = logging.getLogger(__name__)

PROBLEM = "application/problem+json"
API = "/api/"


def handle(error: Exception, context: dict[str, Any]) -> Response:
    """Return the response to an exception of a view: DRF's exception hook.

    An unexpected error is answered 500; its traceback is in the log and not in the response.
    """
    if isinstance(error, OperationalError):
        log.warning("the database did not answer: %s", str(error).split("\n")[0])
    if isinstance(error, (*EXPECTED_ERRORS, OperationalError)):
        response = error_response(error)
        headers = {"Retry-After": str(response.retry_after)} if response.retry_after else {}
        body = problem(response.status, response.detail, response.errors)
        return Response(body, response.status, headers=headers, content_type=PROBLEM)
    answer = exception_handler(error, context)
    if answer is None:
        log.error("a view failed", exc_info=error)
        return Response(problem(500, SERVER_ERROR), 500, content_type=PROBLEM)
    if isinstance(error, ValidationError):
        errors = list(_fields(error.detail))
        detail = "; ".join(f"{entry['field']}: {entry['detail']}" for entry in errors)
        answer.data = problem(answer.status_code, detail, errors)
    else:
        detail = str(error.detail) if isinstance(error, APIException) else str(error) or "not found"
        answer.data = problem(answer.status_code, detail)
    answer.content_type = PROBLEM
    return answer


def _fields(detail: Any, field: str = "") -> Any:
    if isinstance(detail, dict):
        for name, inner in detail.items():
            yield from _fields(inner, f"{field}.{name}" if field else str(name))
    elif isinstance(detail, list):
        for inner in detail:
            yield from _fields(inner, field)
    else:
        yield {"field": field, "detail": str(detail)}


def _outside_of_views(status: int, page: Callable[..., HttpResponse], detail: str) -> Callable[..., HttpResponse]:
    """Return an error handler for requests outside of REST views: a problem for the API, else a page."""

    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.path.startswith(API):
            return JsonResponse(problem(status, detail), status=status, content_type=PROBLEM)
        return page(request, *args, **kwargs)

    return answer


bad_request = _outside_of_views(400, defaults.bad_request, "the request cannot be read")
forbidden = _outside_of_views(403, defaults.permission_denied, "this is not allowed")
not_found = _outside_of_views(404, defaults.page_not_found, "there is nothing at this address")


def server_error(request: HttpRequest) -> HttpResponse:
    """Return the response to an exception outside of REST views; an error of the database is named."""
    error = sys.exc_info()[1]
    response, detail = ErrorResponse(500, SERVER_ERROR), ""
    if isinstance(error, (StorageError, OperationalError)):
        response = error_response(error)
        detail = response.detail
    if request.path.startswith(API):
        return JsonResponse(problem(response.status, response.detail), status=response.status, content_type=PROBLEM)
    page = render_to_string("500.html", {"detail": detail})
    return HttpResponse(page, status=response.status)
