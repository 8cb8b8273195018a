"""How often a key or a service may ask, in DRF's words."""

from typing import Any

from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from rest.caller import caller_of
from rest.rate_limit import check_caller


class PerCaller(BaseThrottle):
    """The same for DRF's views."""

    def allow_request(self, request: Request, view: Any) -> bool:
        if request.user.is_authenticated:
            check_caller(caller_of(request.user).name)
        return True
