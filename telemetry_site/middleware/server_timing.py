"""What Django knows of a request: its route and caller, for the log line; how long its SQL took, for admins to see."""

import time
from collections.abc import Callable
from typing import Any

from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.utils.functional import LazyObject

from rest.request_context import Visit, current
from telemetry_site.middleware.base import BeforeItLeaves


class ServerTiming(BeforeItLeaves):
    """Django's middleware. Answers to admins carry `Server-Timing`: the SQL statements and the whole."""

    def leaving(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        visit = current.get()
        if visit is None:
            return response
        if request.resolver_match is not None:
            visit.route = request.resolver_match.route
        user = _user(request)
        if user is not None and user.is_authenticated:
            visit.caller = getattr(user, "name", "") or f"user:{user.get_username()}"  # as in the journal
            if getattr(user, "is_superuser", False):
                response.headers["Server-Timing"] = _timing(visit)
        return response

    def process_view(self, request: HttpRequest, *view: Any) -> None:
        """Count the statements of the connection that the view is going to use: here, on its thread."""
        if _counted not in connection.execute_wrappers:
            connection.execute_wrappers.append(_counted)


def _counted(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
    visit, began = current.get(), time.perf_counter()
    try:
        return execute(sql, params, many, context)
    finally:
        if visit is not None:
            visit.count_statement(began)


def _user(request: HttpRequest) -> Any:
    """Whoever the view found behind the request, a key's Caller or a person; None where it did not look."""
    user = request.__dict__.get("user")
    return request.__dict__.get("_cached_user") if isinstance(user, LazyObject) else user


def _timing(visit: Visit) -> str:
    total = time.perf_counter() - visit.began
    return f'db;dur={visit.sql_seconds * 1000:.1f};desc="{visit.statements} statements", total;dur={total * 1000:.1f}'
