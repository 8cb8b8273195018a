"""Login with a rate limit per IP address, and per username for addresses that have failed with it.

A right password from an address that has not failed always signs in, so that attackers cannot lock a user out.
"""

from typing import Any

from django.contrib.auth import views
from django.contrib.auth.backends import ModelBackend
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse

from rest.ip_rate_limit import address_of
from rest.rate_limit import Limit, buckets

ADDRESS_LIMIT = Limit(rate=1 / 30, burst=10)
# Failed attempts from all addresses together; refuses only addresses that have failed with this name.
USERNAME_LIMIT = Limit(rate=1 / 20, burst=30)
RATE_LIMITED = "too_often"  # code of the ValidationError


class RateLimitedBackend(ModelBackend):
    """Django's ModelBackend with a limit on login attempts. Successful logins are not counted."""

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **credentials: Any
    ) -> Any:
        """Return the user or None. Raises ValidationError (code `too_often`), which a login form shows."""
        name = (username or "")[:150].casefold()
        of_name, limits, has_failed = f"logins as {name}", {}, True
        scope = getattr(request, "scope", None)
        if scope is not None:
            address = address_of(scope)
            of_both = f"logins from {address} as {name}"
            has_failed = not buckets.is_full(of_both)
            limits = {f"logins from {address}": ADDRESS_LIMIT, of_both: ADDRESS_LIMIT}
        if has_failed:
            limits[of_name] = USERNAME_LIMIT
        _take_tokens(limits)
        user = super().authenticate(request, username, password, **credentials)
        if user is not None:
            for bucket, limit in limits.items():
                buckets.charge(bucket, limit, -1)
        elif not has_failed:
            buckets.charge(of_name, USERNAME_LIMIT)
        return user


def _take_tokens(limits: dict[str, Limit]) -> None:
    """Take a token of each bucket before the password is checked, so that parallel attempts are limited as well.

    Raises ValidationError.
    """
    taken: list[str] = []
    for name, limit in limits.items():
        if wait := buckets.take(name, limit):
            for name_taken in taken:
                buckets.charge(name_taken, limits[name_taken], -1)
            seconds = max(1, round(wait))
            raise ValidationError(
                "Too many attempts. Try again in %(seconds)s seconds.", RATE_LIMITED, {"seconds": seconds}
            )
        taken.append(name)


class LoginView(views.LoginView):
    """Django's login view; a rate limited attempt is answered with 429."""

    redirect_authenticated_user = True

    def form_invalid(self, form: Any) -> HttpResponse:
        errors = [error for error in form.non_field_errors().as_data() if error.code == RATE_LIMITED]
        form.too_often = errors[0].messages[0] if errors else ""
        response = super().form_invalid(form)
        if errors:
            response.status_code = 429
        return response
