"""Default permission of the API's views. Which rows a response has depends on the device groups of the caller."""

from typing import Any

from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from rest.caller import Caller, caller_of


def caller(request: Request) -> Caller:
    """Return the caller of a request: an API key, a service or a person."""
    return caller_of(request.user)


class MayRead(BasePermission):
    """Default permission of the API.

    A read needs a caller that may read the device in the URL, or the devices of `requested_devices(request)` where a
    view has that method; any device where neither names one. Views may instead require a scope: `read_scope` for
    reads, `scope_for_changes` for all other methods.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        if not request.user or not request.user.is_authenticated:
            return False
        if not hasattr(view, (request.method or "").lower()):
            return True  # answered with 405
        scope = getattr(view, "read_scope" if request.method in SAFE_METHODS else "scope_for_changes", None)
        if scope is not None:
            return caller(request).may(scope)
        if hasattr(view, "requested_devices"):
            devices = view.requested_devices(request)
        else:
            devices = [view.kwargs.get("device_id")]
        return all(caller(request).may_read(device_id) for device_id in devices)
