"""Permissions of the pages."""

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

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
