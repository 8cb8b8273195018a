"""Users who sign in for tokens, and the announcement of their changes to all processes."""

from collections.abc import Collection
from typing import Any

from django.contrib.auth import authenticate
from django.core.exceptions import ValidationError
from rest_framework.request import Request

from metrics.models import Revision
from rest.errors import RateLimited


def authenticate_user(request: Request, username: str, password: str) -> Any:
    """Return the active user with this name and password, or None.

    Raises RateLimited after too many failed attempts, as the login page does.
    """
    try:
        return authenticate(request._request, username=username, password=password)
    except ValidationError as error:
        raise RateLimited("too many failed sign-ins", (error.params or {})["seconds"]) from error


def announce_user_change(update_fields: Collection[str] | None = None, created: bool = False, **kwargs: Any) -> None:
    """Increase the revision after a change of a user or group (receiver of `post_save` and `post_delete`).

    New users and sign-ins change no cached permissions.
    """
    if not created and set(update_fields or ()) != {"last_login"}:
        Revision.move()
