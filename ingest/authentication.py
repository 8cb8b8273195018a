"""Who sends: an API key to a Sender, remembered until the revision moves; and the doors of REST that use it."""

import time
from dataclasses import dataclass
from typing import Any

from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from ingest.models import ApiKey, Scope, digest_of
from metrics import catalogue

MOST_REMEMBERED = 200_000
WRITERS = frozenset({Scope.INGEST, Scope.ADMIN})
READERS = frozenset({Scope.READ, Scope.OPERATE, Scope.ADMIN})


@dataclass(frozen=True, slots=True)
class Sender:
    """Whoever a request comes from, and what it may do."""

    name: str
    scope: str
    device_id: str | None = None  # bound to this device
    expires: float = float("inf")  # seconds since 1970

    is_authenticated = True  # what DRF asks of a user

    def get_username(self) -> str:
        """What a user is asked for."""
        return self.name

    def may_write(self, device_id: str) -> bool:
        return self.scope in WRITERS and self.device_id in (None, device_id)

    def may_read(self, device_id: str | None) -> bool:
        """Whether it may read this device; None means any device at all."""
        if self.device_id is not None:
            return self.device_id == device_id  # its own, also with a key that only ingests
        return self.scope in READERS

    @classmethod
    def internal(cls, name: str) -> "Sender":
        """A command of this installation."""
        return cls(name, Scope.ADMIN)

    @classmethod
    def of_user(cls, user: Any) -> "Sender":
        """A person who is logged in: staff may do everything, everybody may read."""
        return cls(f"user:{user.get_username()}", Scope.ADMIN if user.is_staff else Scope.READ)


_remembered: dict[str, Sender | None] = {}  # by key; in memory alone
_revision = -1


def remembered(key: str) -> tuple[bool, Sender | None]:
    """(whether the key was looked up since the revision moved, whose it is)."""
    global _revision
    if catalogue.current().revision != _revision or len(_remembered) > MOST_REMEMBERED:
        _remembered.clear()
        _revision = catalogue.current().revision
    found = _remembered.get(key, _UNKNOWN)
    if found is _UNKNOWN:
        return False, None
    return True, found if found is not None and found.expires > time.time() else None


_UNKNOWN: Any = object()


def forget() -> None:
    """Forget every key: between tests, whose revisions may be alike."""
    _remembered.clear()


def look_up(key: str) -> Sender | None:
    """Whose key this is, from the database; None for nobody's, an expired or a revoked one."""
    found = ApiKey.objects.filter(digest=digest_of(key)).select_related("device").first()
    sender = None
    if (
        found is not None
        and found.revoked_at is None
        and (found.expires_at is None or found.expires_at > timezone.now())
    ):
        sender = Sender(
            f"key:{found.pk}:{found.name}",
            found.scope,
            found.device.device_id if found.device else None,
            found.expires_at.timestamp() if found.expires_at else float("inf"),
        )
    _remembered[key] = sender
    return sender


def sender_of(key: str) -> Sender | None:
    """Whose key this is."""
    known, sender = remembered(key)
    return sender if known else look_up(key)


def key_in(api_key: str | None, authorization: str | None) -> str | None:
    """The key of `X-Api-Key`, or of `Authorization: Bearer`; None where there is neither."""
    if api_key:
        return api_key.strip()
    scheme, _, rest = (authorization or "").partition(" ")
    return rest.strip() or None if scheme.lower() == "bearer" else None


class ApiKeyAuthentication(BaseAuthentication):
    """DRF's view of the keys: `request.user` is the Sender."""

    def authenticate(self, request: Request) -> tuple[Sender, None] | None:
        key = key_in(request.headers.get("X-Api-Key"), request.headers.get("Authorization"))
        if key is None:
            return None
        catalogue.catalogue()
        sender = sender_of(key)
        if sender is None:
            raise AuthenticationFailed("the API key is not valid")
        return sender, None

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="telemetry"'


def sender(request: Request) -> Sender:
    """The Sender of a REST request, be it a key or a person."""
    return request.user if isinstance(request.user, Sender) else Sender.of_user(request.user)


class MayRead(BasePermission):
    """Reading the device in the URL, or those that the view finds in the request; any device where none is named.

    Where a view says which scope changes need, whatever is not read alone needs it.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        if not request.user or not request.user.is_authenticated:
            return False
        if request.method not in SAFE_METHODS and hasattr(view, "scope_for_changes"):
            return sender(request).scope in (view.scope_for_changes, Scope.ADMIN)
        asked = view.devices_asked(request) if hasattr(view, "devices_asked") else [view.kwargs.get("device_id")]
        return all(sender(request).may_read(device_id) for device_id in asked)


class MayWrite(BasePermission):
    """Sending measurements. Which devices, the pipeline decides: bulk may be allowed in part."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return bool(request.user and request.user.is_authenticated and sender(request).scope in WRITERS)
