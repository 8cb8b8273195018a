"""Authentication of a stream: a ticket, else the API key or token in the headers, else the session of the browser."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, urlencode

from channels.db import database_sync_to_async
from django.conf import settings
from django.http.cookie import parse_cookie

from dashboard.streams import tickets
from dashboard.streams.access import (
    Access,
    CredentialAccess,
    SessionAccess,
    find_session_user,
    owner_of,
    owner_of_user,
)
from dashboard.streams.close_codes import (
    FOREIGN_ORIGIN,
    INVALID_CREDENTIAL,
    INVALID_TICKET,
    MAY_NOT_READ,
    NOT_SIGNED_IN,
    CloseReason,
)
from dashboard.streams.origin import is_same_site
from ingest.authentication import find_caller_async, read_credential
from metrics.error_responses import DATABASE_UNAVAILABLE
from metrics.required_revision import wait_until_current
from metrics.storage.errors import StorageUnavailable
from rest import ip_rate_limit
from rest.caller import Caller
from rest.request_context import current

Scope = dict[str, Any]
Parameters = dict[str, list[str]]

TICKET = "ticket"
DATABASE_TIMEOUT = 10.0  # seconds
# Threads of their own: those of requests may all be busy with reads for many seconds.
_threads = ThreadPoolExecutor(2, "streams")


class Refused(Exception):
    """The stream is not opened, or not continued."""

    def __init__(self, reason: CloseReason) -> None:
        super().__init__(reason.detail)
        self.reason = reason


def take_parameters(scope: Scope) -> tuple[Parameters, str | None]:
    """Return the parameters of a stream's URL and its ticket, which is removed from the scope and so from all logs."""
    parameters = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    ticket = parameters.pop(TICKET, None)
    if ticket is None:
        return parameters, None
    scope["query_string"] = urlencode(parameters, doseq=True).encode()
    return parameters, ticket[-1]


async def authenticate(scope: Scope, ticket: str | None) -> tuple[Access, Caller]:
    """Return the access of a stream and its caller. Raises Refused, RateLimited and StorageUnavailable."""
    headers = dict(scope["headers"])
    await wait_until_current(headers)
    is_limited = scope["type"] == "websocket"  # other requests are limited by a middleware
    if is_limited:
        ip_rate_limit.check(scope)
    try:
        access, caller = await _authenticate(scope, headers, ticket)
    except Refused:
        if is_limited:
            ip_rate_limit.count_invalid(scope)
        raise
    if (visit := current.get()) is not None:
        visit.caller = caller.name
    if not caller.may_read(caller.device_id):
        raise Refused(MAY_NOT_READ)
    return access, caller


async def _authenticate(scope: Scope, headers: dict[bytes, bytes], ticket: str | None) -> tuple[Access, Caller]:
    if ticket is not None:
        return _found(await in_thread(tickets.redeem, ticket), INVALID_TICKET)
    credential = read_credential(
        headers.get(b"x-api-key", b"").decode("latin-1"), headers.get(b"authorization", b"").decode("latin-1")
    )
    if credential is not None:
        caller = await find_caller_async(credential)
        if caller is None:
            raise Refused(INVALID_CREDENTIAL)
        return CredentialAccess(await in_thread(owner_of, caller), credential), caller
    if not is_same_site(headers, scope["scheme"], settings.CSRF_TRUSTED_ORIGINS, settings.BEHIND_PROXY):
        raise Refused(FOREIGN_ORIGIN)
    cookies = parse_cookie(headers.get(b"cookie", b"").decode("latin-1"))
    session_key = cookies.get(settings.SESSION_COOKIE_NAME)
    if not session_key:
        raise Refused(NOT_SIGNED_IN)
    return _found(await in_thread(_find_session, session_key), NOT_SIGNED_IN)


def _find_session(session_key: str) -> tuple[Access, Caller] | None:
    user = find_session_user(session_key)
    if user is None:
        return None
    return SessionAccess(owner_of_user(user.pk), session_key), Caller.of_user(user)


def _found(found: tuple[Access, Caller] | None, reason: CloseReason) -> tuple[Access, Caller]:
    if found is None:
        raise Refused(reason)
    return found


async def in_thread(function: Any, *arguments: Any) -> Any:
    """Call a function that reads the database, and close connections that failed. Raises StorageUnavailable.

    A server that hangs answers neither the query nor a cancellation, so that only its thread goes on to wait.
    """
    try:
        async with asyncio.timeout(DATABASE_TIMEOUT):
            return await database_sync_to_async(function, thread_sensitive=False, executor=_threads)(*arguments)
    except TimeoutError:
        raise StorageUnavailable(DATABASE_UNAVAILABLE) from None
