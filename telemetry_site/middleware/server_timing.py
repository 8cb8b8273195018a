"""Route, caller and SQL time of a request for the request log, and a Server-Timing header for admins."""

import time
from collections.abc import Callable
from typing import Any

from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.utils.functional import LazyObject

from rest.request_context import Visit, current
from telemetry_site.middleware.base import ResponseMiddleware


class ServerTiming(ResponseMiddleware):
    """Django middleware. Responses to admins carry `Server-Timing` with the time in SQL and the total time."""

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        visit = current.get()
        if visit is None:
            return response
        if request.resolver_match is not None:
            visit.route = request.resolver_match.route
        user = _user(request)
        if user is not None and user.is_authenticated:
            visit.caller = getattr(user, "name", "") or f"user:{user.get_username()}"  # as in the audit log
            if getattr(user, "is_superuser", False):
                response.headers["Server-Timing"] = _timing(visit)
        return response

    def process_view(self, request: HttpRequest, *view_args: Any) -> None:
        """Count the SQL statements of the view; called on the view's thread, which has its own connection."""
        if _count_statement not in connection.execute_wrappers:
            connection.execute_wrappers.append(_count_statement)


def _count_statement(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
    visit, began = current.get(), time.perf_counter()
    try:
        return execute(sql, params, many, context)
    finally:
        if visit is not None:
            visit.count_statement(began)


def _user(request: HttpRequest) -> Any:
    """Return the Caller or user that the view authenticated; None if it did not look."""
    user = request.__dict__.get("user")
    return request.__dict__.get("_cached_user") if isinstance(user, LazyObject) else user


def _timing(visit: Visit) -> str:
    total = time.perf_counter() - visit.began
    return f'db;dur={visit.sql_seconds * 1000:.1f};desc="{visit.statements} statements", total;dur={total * 1000:.1f}'
