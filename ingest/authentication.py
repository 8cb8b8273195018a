"""Who comes with a credential: an API key or a token to a Caller, remembered until the revision moves.

A key costs a query once, and a token its signature once, not with every request. REST, the fast lane and the
WebSockets come in by the same way.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from channels.db import database_sync_to_async
from django.conf import settings
from django.db import OperationalError
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from ingest.identity import issuers, jwts, keys, last_used, service_tokens, tokens
from ingest.identity.credential_owner import Holder
from ingest.identity.trusted_issuers import OWN_ISSUER
from metrics.storage import series_registry
from metrics.storage.errors import StorageUnavailable
from rest.caller import WRITERS, Caller
from rest.permissions import caller

CHALLENGE = 'Bearer realm="telemetry"'
NOT_VALID = "the API key or the token is not valid"
MOST_REMEMBERED = 200_000
LONGEST_KEY = 256  # characters


class Memory:
    """What one revision's credentials turned out to be. Replaced whole: no late answer gets into a newer one."""

    def __init__(self, revision: int) -> None:
        self.revision = revision
        self.holders: dict[str, Holder | None] = {}


_memory = Memory(-1)
_UNKNOWN: Any = object()


def _current() -> Memory:
    global _memory
    revision = series_registry.cached_registry().revision
    if _memory.revision != revision or len(_memory.holders) > MOST_REMEMBERED:
        _memory = Memory(revision)
    return _memory


def remembered(credential: str) -> tuple[bool, Caller | None]:
    """(whether the credential was looked up since the revision moved, whose it is)."""
    found = _current().holders.get(credential, _UNKNOWN)
    if found is _UNKNOWN:
        return False, None
    if found is None:
        return True, None
    if found.until <= time.time():
        return False, None
    if found.key is not None:
        last_used.note(found.key)
    return True, found.caller


def forget() -> None:
    """Forget every credential: between tests, whose revisions may be alike."""
    global _memory
    _memory = Memory(-1)
    keys.forget()
    last_used.forget()


def look_up(credential: str) -> Caller | None:
    """Whose credential this is, from the database; None for nobody's, an expired, a revoked or a used one.

    May wait for another server where it is a token. Raises StorageUnavailable.
    """
    memory = _current()
    try:
        holder = _holder(credential)
    except OperationalError as error:
        raise StorageUnavailable("the database cannot be reached, or takes too long; try again") from error
    # A refused token costs no query, and may be good as soon as its issuer can be reached.
    if holder is not None or (len(credential) <= LONGEST_KEY and not jwts.looks_like_one(credential)):
        memory.holders[credential] = holder
    if holder is None:
        return None
    if holder.key is not None:
        last_used.note(holder.key)
    return holder.caller


def _holder(credential: str) -> Holder | None:
    if not jwts.looks_like_one(credential):
        return keys.holder(credential) if len(credential) <= LONGEST_KEY else None
    if len(credential) > jwts.LONGEST:
        return None
    named = jwts.named_issuer(credential)
    if named == OWN_ISSUER:
        return tokens.holder(credential)
    if named in settings.SERVICES:
        return service_tokens.holder(credential, named)
    issuer = next((one for one in settings.JWT_ISSUERS if one.issuer == named), None)
    return None if issuer is None else issuers.holder(credential, issuer)


def caller_by(credential: str) -> Caller | None:
    """Whose credential this is. Raises StorageUnavailable."""
    known, found = remembered(credential)
    return found if known else look_up(credential)


# They let go of a connection that has died. Tokens may have to wait for their issuer: nobody else waits with them.
_look_up_key = database_sync_to_async(look_up)
_look_up_token = database_sync_to_async(look_up, thread_sensitive=False, executor=ThreadPoolExecutor(4, "token"))


async def caller_by_async(credential: str) -> Caller | None:
    """The same on the event loop, which never waits."""
    known, found = remembered(credential)
    if known:
        return found
    return await (_look_up_token if jwts.looks_like_one(credential) else _look_up_key)(credential)


async def still_valid(credential: str, before: Caller) -> bool:
    """Whether a credential is good for what it was good for `before`, while a connection that it opened lasts."""
    if before.expires <= time.time():
        return False
    if jwts.looks_like_one(credential) and jwts.named_issuer(credential) in settings.SERVICES:
        return True  # taken once, when the connection was opened
    return await caller_by_async(credential) == before


def credential_in(api_key: str | None, authorization: str | None) -> str | None:
    """What `X-Api-Key` or `Authorization: Bearer` holds, a key or a token; None where there is neither."""
    if api_key:
        return api_key.strip()
    scheme, _, rest = (authorization or "").partition(" ")
    return rest.strip() or None if scheme.lower() == "bearer" else None


class ApiKeyAuthentication(BaseAuthentication):
    """DRF's view of keys and tokens: `request.user` is the Caller."""

    def authenticate(self, request: Request) -> tuple[Caller, None] | None:
        credential = credential_in(request.headers.get("X-Api-Key"), request.headers.get("Authorization"))
        if credential is None:
            return None
        series_registry.current_registry()
        found = caller_by(credential)
        if found is None:
            raise AuthenticationFailed(NOT_VALID)
        return found, None

    def authenticate_header(self, request: Request) -> str:
        return CHALLENGE


class MayAdminister(BasePermission):
    """What is not even to be seen by others."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return bool(request.user and request.user.is_authenticated and caller(request).is_admin)


class MayWrite(BasePermission):
    """Sending measurements. Which devices, the pipeline decides: bulk may be allowed in part."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return bool(request.user and request.user.is_authenticated and caller(request).scope in WRITERS)
