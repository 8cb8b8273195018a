"""People who ask for tokens: who they are, and how every process hears that one of them changed."""

from collections.abc import Collection
from typing import Any

from django.contrib.auth import authenticate
from django.core.exceptions import ValidationError
from rest_framework.request import Request

from metrics.models import Revision
from rest.errors import RateLimited


def with_password(request: Request, username: str, password: str) -> Any:
    """The active person with this name and password, or None.

    Raises RateLimited where a backend refuses to look, as it does at the login page.
    """
    try:
        return authenticate(request._request, username=username, password=password)
    except ValidationError as error:
        raise RateLimited("too many wrong passwords", (error.params or {})["seconds"]) from error


def announce_change(update_fields: Collection[str] | None = None, created: bool = False, **kwargs: Any) -> None:
    """Receiver of `post_save` and `post_delete`. That somebody is new, or signed in, changes nothing for others."""
    if not created and set(update_fields or ()) != {"last_login"}:
        Revision.move()
