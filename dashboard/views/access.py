"""Who may do what a page offers."""

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from rest.caller import Caller, Scope, caller_of


def operator_of(request: HttpRequest) -> Caller:
    """Whoever asks, where that is somebody who operates. Raises PermissionDenied."""
    return _may(request, Scope.OPERATE)


def admin_of(request: HttpRequest) -> Caller:
    """Whoever asks, where that is an admin. Raises PermissionDenied."""
    return _may(request, Scope.ADMIN)


def _may(request: HttpRequest, scope: Scope) -> Caller:
    caller = caller_of(request.user)
    if not caller.may(scope):
        raise PermissionDenied
    return caller
