"""Authentication by API key or token, for REST, the fast lane and WebSockets.

Callers are cached until the revision changes, so that a key costs one query and a token one signature check, and not
one for every request.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from weakref import WeakKeyDictionary

from channels.db import database_sync_to_async
from django.conf import settings
from django.db import OperationalError
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from ingest.identity import issuer_tokens, jwts, keys, last_used, service_tokens, tokens
from ingest.identity.batched_lookups import BatchedLookups
from ingest.identity.credential_owner import CredentialOwner
from ingest.identity.trusted_issuers import OWN_ISSUER
from metrics.error_responses import DATABASE_UNAVAILABLE
from metrics.storage import series_registry
from metrics.storage.disk_space import storage_error
from rest.caller import WRITERS, Caller
from rest.permissions import caller

CHALLENGE = 'Bearer realm="telemetry"'
INVALID_CREDENTIAL = "the API key or the token is not valid"
MAX_CACHED_CREDENTIALS = 200_000
MAX_KEY_LENGTH = 256  # characters


class CredentialCache:
    """The owners of credentials at one revision.

    A new revision gets a new cache, so a slow lookup cannot store an outdated owner in it.
    """

    def __init__(self, revision: int) -> None:
        self.revision = revision
        self.owners: dict[str, CredentialOwner | None] = {}


_cache = CredentialCache(-1)
_NOT_CACHED: Any = object()


def _current_cache() -> CredentialCache:
    global _cache
    revision = series_registry.cached_registry().revision
    if _cache.revision != revision or len(_cache.owners) > MAX_CACHED_CREDENTIALS:
        _cache = CredentialCache(revision)
    return _cache


def cached_caller(credential: str) -> tuple[bool, Caller | None]:
    """Return (whether the credential is cached, its caller). A cached credential without a caller is invalid."""
    owner = _current_cache().owners.get(credential, _NOT_CACHED)
    if owner is _NOT_CACHED:
        return False, None
    if owner is None:
        return True, None
    if owner.until <= time.time():
        return False, None
    return True, _used_by(owner)


def clear_cache() -> None:
    """Clear the cached credentials."""
    global _cache
    _cache = CredentialCache(-1)


def resolve_credential(credential: str) -> Caller | None:
    """Return the caller of a credential from the database; None if it is unknown, expired, revoked or used up.

    May wait for an issuer's keys. Raises StorageUnavailable.
    """
    return resolve_keys([credential])[credential] if not jwts.is_jwt(credential) else _resolve_token(credential)


def resolve_keys(texts: Iterable[str]) -> Mapping[str, Caller | None]:
    """Return the callers of API keys from the database, by one query. Raises StorageUnavailable."""
    cache = _current_cache()
    callers: dict[str, Caller | None] = dict.fromkeys(texts)
    try:
        owners = keys.find_owners([text for text in callers if len(text) <= MAX_KEY_LENGTH])
    except OperationalError as error:
        raise storage_error(error, DATABASE_UNAVAILABLE) from error
    cache.owners.update(owners)
    return callers | {text: None if owner is None else _used_by(owner) for text, owner in owners.items()}


def _resolve_token(token: str) -> Caller | None:
    cache = _current_cache()
    try:
        owner = _find_owner_of_token(token)
    except OperationalError as error:
        raise storage_error(error, DATABASE_UNAVAILABLE) from error
    # Rejected tokens are not cached: they cost no query, and may be valid as soon as their issuer can be reached.
    if owner is None:
        return None
    cache.owners[token] = owner
    return _used_by(owner)


def _used_by(owner: CredentialOwner) -> Caller:
    if owner.key is not None:
        last_used.mark_used(owner.key)
    return owner.caller


def _find_owner_of_token(credential: str) -> CredentialOwner | None:
    if len(credential) > jwts.MAX_TOKEN_LENGTH:
        return None
    name = jwts.unverified_issuer(credential)
    if name == OWN_ISSUER:
        return tokens.find_owner(credential)
    if name in settings.SERVICES:
        return service_tokens.find_owner(credential, name)
    issuer = next((issuer for issuer in settings.JWT_ISSUERS if issuer.issuer == name), None)
    return None if issuer is None else issuer_tokens.find_owner(credential, issuer)


def find_caller(credential: str) -> Caller | None:
    """Return the caller of a credential, or None. Raises StorageUnavailable."""
    is_cached, caller = cached_caller(credential)
    return caller if is_cached else resolve_credential(credential)


# Both close database connections that have failed. Tokens may wait for their issuer, so they have threads of their own.
_resolve_keys_async = database_sync_to_async(resolve_keys)
_resolve_token_async = database_sync_to_async(
    _resolve_token, thread_sensitive=False, executor=ThreadPoolExecutor(4, "token")
)
_key_lookups: WeakKeyDictionary[asyncio.AbstractEventLoop, BatchedLookups[Caller | None]] = WeakKeyDictionary()


async def _read_keys(texts: Sequence[str]) -> Mapping[str, Caller | None]:
    return await _resolve_keys_async(texts)


def forget_key_lookups() -> None:
    """Drop the lookups of all event loops, none of which runs in a forked child."""
    _key_lookups.clear()


def _lookups() -> BatchedLookups[Caller | None]:
    return _key_lookups.setdefault(asyncio.get_running_loop(), BatchedLookups(_read_keys))


async def find_caller_async(credential: str) -> Caller | None:
    """Do the same without blocking the event loop."""
    is_cached, caller = cached_caller(credential)
    if is_cached:
        return caller
    return await _resolve_token_async(credential) if jwts.is_jwt(credential) else await _lookups().find(credential)


def is_single_use(credential: str) -> bool:
    """Return whether a credential is a service token, which is accepted once: when a connection is opened."""
    return jwts.is_jwt(credential) and jwts.unverified_issuer(credential) in settings.SERVICES


def read_credential(api_key: str | None, authorization: str | None) -> str | None:
    """Return the key or token of `X-Api-Key` or `Authorization: Bearer`; None without either header."""
    if api_key:
        return api_key.strip()
    scheme, _, rest = (authorization or "").partition(" ")
    return rest.strip() or None if scheme.lower() == "bearer" else None


class ApiKeyAuthentication(BaseAuthentication):
    """DRF authentication by key or token: `request.user` is the Caller."""

    def authenticate(self, request: Request) -> tuple[Caller, None] | None:
        credential = read_credential(request.headers.get("X-Api-Key"), request.headers.get("Authorization"))
        if credential is None:
            return None
        series_registry.current_registry()
        caller = find_caller(credential)
        if caller is None:
            raise AuthenticationFailed(INVALID_CREDENTIAL)
        return caller, None

    def authenticate_header(self, request: Request) -> str:
        return CHALLENGE


class MayWrite(BasePermission):
    """Permission to send points. The pipeline checks each device, since a bulk request may be allowed in part."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return bool(request.user and request.user.is_authenticated and caller(request).scope in WRITERS)
