"""Who may ask: the default of every view of the API. What the answer then holds, the caller's groups decide."""

from typing import Any

from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from rest.caller import Caller, caller_of


def caller(request: Request) -> Caller:
    """Whoever a REST request comes from, be it a key or a person."""
    return caller_of(request.user)


class MayRead(BasePermission):
    """Reading the device in the URL, or those that the view finds in the request; any device where none is named.

    Where a view says which scope changes need, whatever is not read alone needs it.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        if not request.user or not request.user.is_authenticated:
            return False
        if request.method not in SAFE_METHODS and hasattr(view, "scope_for_changes"):
            return caller(request).may(view.scope_for_changes)
        asked = view.devices_asked(request) if hasattr(view, "devices_asked") else [view.kwargs.get("device_id")]
        return all(caller(request).may_read(device_id) for device_id in asked)
