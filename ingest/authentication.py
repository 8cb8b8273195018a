"""Who comes with a key: an API key to a Caller, remembered until the revision moves; and REST's use of it."""

import time
from typing import Any

from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from ingest.models import ApiKey, digest_of
from metrics import catalogue
from metrics.access import WRITERS, Caller
from metrics.api.permissions import caller

MOST_REMEMBERED = 200_000

_remembered: dict[str, Caller | None] = {}  # by key; in memory alone
_revision = -1


def remembered(key: str) -> tuple[bool, Caller | None]:
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


def look_up(key: str) -> Caller | None:
    """Whose key this is, from the database; None for nobody's, an expired or a revoked one."""
    found = ApiKey.objects.filter(digest=digest_of(key)).select_related("device").first()
    holder = None
    if (
        found is not None
        and found.revoked_at is None
        and (found.expires_at is None or found.expires_at > timezone.now())
    ):
        holder = Caller(
            f"key:{found.pk}:{found.name}",
            found.scope,
            found.device.device_id if found.device else None,
            expires=found.expires_at.timestamp() if found.expires_at else float("inf"),
        )
    _remembered[key] = holder
    return holder


def caller_by(key: str) -> Caller | None:
    """Whose key this is."""
    known, holder = remembered(key)
    return holder if known else look_up(key)


def key_in(api_key: str | None, authorization: str | None) -> str | None:
    """The key of `X-Api-Key`, or of `Authorization: Bearer`; None where there is neither."""
    if api_key:
        return api_key.strip()
    scheme, _, rest = (authorization or "").partition(" ")
    return rest.strip() or None if scheme.lower() == "bearer" else None


class ApiKeyAuthentication(BaseAuthentication):
    """DRF's view of the keys: `request.user` is the Caller."""

    def authenticate(self, request: Request) -> tuple[Caller, None] | None:
        key = key_in(request.headers.get("X-Api-Key"), request.headers.get("Authorization"))
        if key is None:
            return None
        catalogue.catalogue()
        found = caller_by(key)
        if found is None:
            raise AuthenticationFailed("the API key is not valid")
        return found, None

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="telemetry"'


class MayWrite(BasePermission):
    """Sending measurements. Which devices, the pipeline decides: bulk may be allowed in part."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return bool(request.user and request.user.is_authenticated and caller(request).scope in WRITERS)
