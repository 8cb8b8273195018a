"""The edge agent as a download, `/agent.pyz`, its checksum in the format of `sha256sum`, and its signature."""

import functools
import hashlib

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import condition, require_safe

from ingest.agent import VERSION, build_zipapp
from ingest.agents.signing import sign_program, site_key


@functools.cache
def _program() -> bytes:
    return build_zipapp.build()


@functools.cache
def _checksum() -> str:
    return hashlib.sha256(_program()).hexdigest()


def _etag(request: HttpRequest) -> str:
    return f'"{_checksum()}"'


@require_safe
@condition(etag_func=_etag)
def agent_program(request: HttpRequest) -> HttpResponse:
    """Return the agent as a zipapp, the same bytes for the same version of the site."""
    headers = {"Content-Disposition": f'attachment; filename="{build_zipapp.FILE_NAME}"', "Cache-Control": "no-cache"}
    return HttpResponse(_program(), content_type="application/zip", headers=headers)


@require_safe
@condition(etag_func=_etag)
def agent_checksum(request: HttpRequest) -> HttpResponse:
    """Return the SHA-256 of the agent."""
    text = f"{_checksum()}  {build_zipapp.FILE_NAME}\n"
    return HttpResponse(text, content_type="text/plain; charset=utf-8", headers={"Cache-Control": "no-cache"})


@require_safe
def agent_offer(request: HttpRequest) -> HttpResponse:
    """Return version, checksum and signature of the agent, and the public key that verifies them."""
    offer = {"version": VERSION, "sha256": _checksum(), "signature": sign_program(VERSION, _checksum())}
    return JsonResponse(offer | {"site_key": site_key()}, headers={"Cache-Control": "no-cache"})
