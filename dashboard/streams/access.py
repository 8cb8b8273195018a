"""By what right a stream is open: a credential, a session, or the user or key of a ticket. All can be renewed.

A stream outlives the request that opened it, so its caller is looked up again regularly: users are disabled, keys are
revoked, sessions end and memberships change. The methods read the database and are called in threads.
"""

import time
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, Protocol

from django.conf import settings
from django.contrib.auth import get_user, get_user_model
from django.http import HttpRequest

from ingest.authentication import find_caller, is_single_use
from ingest.identity.keys import members_of, owner_of_key
from ingest.models import ApiKey
from rest.caller import Caller

_USER, _KEY = "user:", "key:"


class Access(Protocol):
    """The right of a stream; equal for streams with the same right, which are checked together.

    owner  `user:<pk>`, `key:<pk>` or the name of a service: it stays the same when a user is renamed
    """

    @property
    def owner(self) -> str: ...

    def renew(self, before: Caller) -> Caller | None:
        """Return the caller with its present rights; None once access has ended."""


@dataclass(frozen=True, slots=True)
class CredentialAccess:
    """An API key or token in the headers."""

    owner: str
    credential: str

    def renew(self, before: Caller) -> Caller | None:
        if before.expires <= time.time():
            return None
        # A token that is accepted only once was used when the stream was opened.
        return before if is_single_use(self.credential) else find_caller(self.credential)


@dataclass(frozen=True, slots=True)
class SessionAccess:
    """A session of a browser."""

    owner: str
    session_key: str

    def renew(self, before: Caller) -> Caller | None:
        user = find_session_user(self.session_key)
        return None if user is None else Caller.of_user(user)


@dataclass(frozen=True, slots=True)
class UserAccess:
    """A user without a session: the ticket was issued for a token."""

    owner: str
    user_id: int

    def renew(self, before: Caller) -> Caller | None:
        user = get_user_model().objects.filter(pk=self.user_id, is_active=True).first()
        if user is None or before.expires <= time.time():
            return None
        return replace(Caller.of_user(user), expires=before.expires)


@dataclass(frozen=True, slots=True)
class KeyAccess:
    """An API key without its text, which only the ticket's issuer had."""

    owner: str
    key_id: int

    def renew(self, before: Caller) -> Caller | None:
        key = ApiKey.objects.filter(pk=self.key_id).select_related("device", "group").first()
        found = None if key is None else owner_of_key(key)
        if found is None or before.expires <= time.time():
            return None
        return replace(found.caller, expires=min(found.caller.expires, before.expires))


@dataclass(frozen=True, slots=True)
class IssuedAccess:
    """A service, or a user of another issuer, until its token expires."""

    owner: str

    def renew(self, before: Caller) -> Caller | None:
        if before.expires <= time.time():
            return None
        return replace(before, members=members_of(before.groups))


def access_of(owner: str) -> Access | None:
    """Return the access of a user or a key; None for other owners."""
    kind, _, number = owner.partition(":")
    if not number.isdigit():
        return None
    if f"{kind}:" == _KEY:
        return KeyAccess(owner, int(number))
    return UserAccess(owner, int(number)) if f"{kind}:" == _USER else None


def owner_of(caller: Caller) -> str:
    """Return the owner of a caller's streams; reads the database for a user's token."""
    if caller.name.startswith(_KEY):
        return _KEY + caller.name.split(":", 2)[1]
    if caller.name.startswith(_USER):
        name = caller.name.removeprefix(_USER)
        pk = get_user_model().objects.filter(username=name).values_list("pk", flat=True).first()
        return f"{_USER}{pk}"
    return caller.name


def owner_of_user(pk: int) -> str:
    """Return the owner of a user's streams."""
    return f"{_USER}{pk}"


def user_id_of(owner: str) -> int | None:
    """Return the primary key of an owner that is a user, else None."""
    number = owner.removeprefix(_USER)
    return int(number) if owner.startswith(_USER) and number.isdigit() else None


def find_session_user(session_key: str) -> Any | None:
    """Return the active user of a session; None if it has ended, also by a change of the password."""
    if not session_key.isascii() or not session_key.isalnum():
        return None
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    user = get_user(request)
    return user if user.is_authenticated else None
