"""Django's ASGI application, for requests whose path is a routing path (see rest.paths)."""

from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.exceptions import SuspiciousFileOperation
from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.db import close_old_connections
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase


class _Request(ASGIRequest):
    """A request whose URL, as in redirects and links, keeps the escapes of its path."""

    def _get_full_path(self, path: str, force_append_slash: bool) -> str:
        url: str = super()._get_full_path(path, force_append_slash)  # type: ignore[misc]
        quoted, question_mark, query = url.partition("?")
        return quoted.replace("%25", "%") + question_mark + query


class _Handler(ASGIHandler):
    """Runs middleware and view in one call on the request's thread.

    All of them are synchronous. Django's asynchronous chain would change the thread twice for each of the middlewares,
    which takes longer than most views.
    """

    request_class = _Request

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async=False)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        return await sync_to_async(self._respond, thread_sensitive=True)(request)

    def _respond(self, request: HttpRequest) -> HttpResponseBase:
        """Return the response, and give the thread's database connection back before it is sent.

        Django would keep it until the end of the response: a few clients that read slowly would use up the pool.
        """
        try:
            return self.get_response(request)
        finally:
            close_old_connections()


class _StaticFilesHandler(ASGIStaticFilesHandler):
    request_class = _Request

    def serve(self, request: HttpRequest) -> HttpResponse | FileResponse:
        try:
            return super().serve(request)
        except SuspiciousFileOperation:  # a path that leads out of the folder
            raise Http404 from None


def django_application() -> Any:
    """Return the application that serves static files and everything else; Django must be set up."""
    return _StaticFilesHandler(_Handler())
