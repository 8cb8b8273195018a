"""Passwords: how often they may be tried, from an address and for a user name, on every page that asks for one."""

from typing import Any

from django.contrib.auth import views
from django.contrib.auth.backends import ModelBackend
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse

from rest.ip_rate_limit import address_of
from rest.rate_limit import Limit, buckets

FROM_AN_ADDRESS = Limit(rate=1 / 30, burst=10)
FOR_A_NAME = Limit(rate=1 / 20, burst=30)  # from everywhere, so that nobody is shut out by one who guesses
TOO_OFTEN = "too_often"


class LimitedBackend(ModelBackend):
    """Django's backend, which is asked only as often as it may be. What was right is not counted."""

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **more: Any
    ) -> Any:
        """Raises ValidationError (`too_often`), which a login form shows."""
        tries = {f"logins as {(username or '')[:150].casefold()}": FOR_A_NAME}
        scope = getattr(request, "scope", None)
        if scope is not None:
            tries[f"logins from {address_of(scope)}"] = FROM_AN_ADDRESS
        _take(tries)
        user = super().authenticate(request, username, password, **more)
        if user is not None:
            for name, limit in tries.items():
                buckets.charge(name, limit, -1)
        return user


def _take(tries: dict[str, Limit]) -> None:
    """One of each, before the password is looked at: a hundred at once are no more than one after the other."""
    taken: list[str] = []
    for name, limit in tries.items():
        if wait := buckets.take(name, limit):
            for other in taken:
                buckets.charge(other, tries[other], -1)
            seconds = max(1, round(wait))
            raise ValidationError(
                "Too many attempts. Try again in %(seconds)s seconds.", TOO_OFTEN, {"seconds": seconds}
            )
        taken.append(name)


class LoginView(views.LoginView):
    """Django's, which says so with a status too."""

    redirect_authenticated_user = True

    def form_invalid(self, form: Any) -> HttpResponse:
        errors = [error for error in form.non_field_errors().as_data() if error.code == TOO_OFTEN]
        form.too_often = errors[0].messages[0] if errors else ""
        answer = super().form_invalid(form)
        if errors:
            answer.status_code = 429
        return answer
