"""Permissions of the pages, and where a form leads back to."""

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.utils.http import url_has_allowed_host_and_scheme

from rest.caller import Caller, Scope, caller_of


def operator_of(request: HttpRequest) -> Caller:
    """Return the caller if they may operate. Raises PermissionDenied."""
    return _require(request, Scope.OPERATE)


def admin_of(request: HttpRequest) -> Caller:
    """Return the caller if they may administer. Raises PermissionDenied."""
    return _require(request, Scope.ADMIN)


def _require(request: HttpRequest, scope: Scope) -> Caller:
    caller = caller_of(request.user)
    if not caller.may(scope):
        raise PermissionDenied
    return caller


def return_url(request: HttpRequest, default: str) -> str:
    """Return the page of the form (`back`), if it is a page of this site; else the default."""
    url = request.POST.get("back", "")
    return url if url_has_allowed_host_and_scheme(url, allowed_hosts=None) else default
