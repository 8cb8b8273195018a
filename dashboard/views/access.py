"""Permissions of the pages, and where a form leads back to."""

from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
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


def require_login(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Redirect anonymous visitors to the login page, which leads back to the page, or to the page of a posted form."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.user.is_authenticated:
            return view(request, *args, **kwargs)
        is_read = request.method in ("GET", "HEAD")
        return redirect_to_login(request.get_full_path() if is_read else _page_of_form(request))

    return wrapped


def _page_of_form(request: HttpRequest) -> str:
    """Return the page that a form was posted from: addresses that only take forms cannot be opened after the login."""
    referer = urlsplit(request.headers.get("Referer", ""))
    if referer.netloc != request.get_host():
        return "/"
    return urlunsplit(("", "", referer.path or "/", referer.query, ""))


def return_url(request: HttpRequest, default: str) -> str:
    """Return the page of the form (`back`), if it is a page of this site; else the default."""
    url = request.POST.get("back", "")
    return url if url_has_allowed_host_and_scheme(url, allowed_hosts=None) else default
