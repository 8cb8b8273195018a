"""Rate limit per API key and service, as a throttle of DRF."""

from typing import Any

from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from rest.caller import caller_of
from rest.rate_limit import check_caller


class PerCaller(BaseThrottle):
    def allow_request(self, request: Request, view: Any) -> bool:
        if request.user.is_authenticated:
            check_caller(caller_of(request.user).name)
        return True
