"""The site's own tokens: a short-lived, signed access token and a refresh token that renews it.

Both belong to a family, which starts with a password or an API key. It ends when it expires or is revoked, and when
its user or key loses access. An access token is checked against its family once and then cached until the revision
changes, which every revocation does.
"""

import logging
import secrets
import time
import uuid
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import jwt
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac

from ingest.identity import jwts, keys
from ingest.identity.credential_owner import CredentialOwner
from ingest.identity.models import TokenFamily
from ingest.identity.trusted_issuers import OWN_ISSUER
from ingest.models import ApiKey, digest_of
from metrics.audit.record import record
from metrics.models import Revision
from rest.caller import Caller

log = logging.getLogger(__name__)

ALGORITHM = "HS256"
AUDIENCE = "telemetry-api"
PREFIX = "tr_"
PART_BYTES = 24  # random bytes of each part of a refresh token


@dataclass(frozen=True, slots=True)
class Tokens:
    """The response to a sign-in. Times are seconds from now."""

    access_token: str
    expires_in: int
    refresh_token: str
    refresh_expires_in: int
    token_type: str = "bearer"  # noqa: S105 - not a secret


def issue_for_user(user: Any) -> Tokens:
    """Start a family for a user who signed in with a password."""
    return _start_family(user=user, stamp=user.get_session_auth_hash())


def issue_for_key(key: ApiKey) -> Tokens:
    """Start a family in exchange for an API key."""
    return _start_family(key=key)


def _start_family(**owner: Any) -> Tokens:
    first, second = secrets.token_urlsafe(PART_BYTES), secrets.token_urlsafe(PART_BYTES)
    ends = timezone.now() + timedelta(days=settings.REFRESH_TOKEN_DAYS)
    key = owner.get("key")
    if key is not None and key.expires_at is not None:
        ends = min(ends, key.expires_at)
    with transaction.atomic():
        family = TokenFamily.objects.create(digest=digest_of(first), newest=digest_of(second), expires_at=ends, **owner)
        record("signed in", family.owner)
    return _issue(family, f"{PREFIX}{first}.{second}")


def refresh(refresh_token: str) -> Tokens | None:
    """Return new tokens for a refresh token, which can be used once; None if it is not valid.

    A token that is used twice, or its successor, was stolen: the whole family is revoked.
    """
    first, _, second = refresh_token.removeprefix(PREFIX).partition(".")
    family = _find_family(digest=digest_of(first))
    if family is None or _caller(family) is None:
        return None
    new = secrets.token_urlsafe(PART_BYTES)
    # Of two simultaneous requests with the same token, only one matches the row.
    rotated = TokenFamily.objects.filter(pk=family.pk, newest=digest_of(second), revoked_at=None)
    if not rotated.update(newest=digest_of(new)):
        log.warning("a refresh token of family %s was used twice: the family is revoked", family.pk)
        _revoke(family, "revoked tokens: refresh token used twice")
        return None
    return _issue(family, f"{PREFIX}{first}.{new}")


def revoke(refresh_token: str) -> None:
    """Revoke the family of a refresh token; an unknown token changes nothing."""
    family = _find_family(digest=digest_of(refresh_token.removeprefix(PREFIX).partition(".")[0]))
    if family is not None and family.revoked_at is None:
        _revoke(family, "revoked tokens")


def find_owner(token: str) -> CredentialOwner | None:
    """Return the owner of an access token with the current rights of the user or key, or None."""
    claims = jwts.verify(token, _signing_key(), [ALGORITHM], OWN_ISSUER, AUDIENCE) or {}
    number = claims.get("family")
    family = _find_family(pk=number) if isinstance(number, int) else None
    caller = None if family is None else _caller(family)
    # A token is valid for its scope only: after a change of the scope a new token is needed.
    if family is None or caller is None or caller.scope != claims.get("scope"):
        return None
    expires = float(claims["exp"])
    return CredentialOwner(replace(caller, expires=min(caller.expires, expires)), expires, family.key_id)


def delete_expired() -> int:
    """Delete expired families; return the number of deleted rows."""
    return TokenFamily.objects.filter(expires_at__lt=timezone.now()).delete()[0]


def _find_family(**fields: Any) -> TokenFamily | None:
    return TokenFamily.objects.filter(**fields).select_related("user", "key__device", "key__group").first()


def _caller(family: TokenFamily) -> Caller | None:
    """Return the caller of a family; None if it is expired or revoked, or if its user or key lost access."""
    if family.revoked_at is not None or family.expires_at <= timezone.now():
        return None
    if family.key is not None:
        owner = keys.owner_of_key(family.key)
        return None if owner is None else owner.caller
    user: Any = family.user
    if not user.is_active or not secrets.compare_digest(family.stamp, user.get_session_auth_hash()):
        return None
    return Caller.of_user(user)


def _revoke(family: TokenFamily, action: str) -> None:
    with transaction.atomic():
        TokenFamily.objects.filter(pk=family.pk).update(revoked_at=timezone.now())
        record(action, family.owner)
        Revision.move()


def _issue(family: TokenFamily, refresh_token: str) -> Tokens:
    now = int(time.time())
    caller = _caller(family)
    assert caller is not None
    family_lifetime = int(family.expires_at.timestamp()) - now
    lifetime = min(settings.ACCESS_TOKEN_SECONDS, family_lifetime)
    claims = {
        "iss": OWN_ISSUER,
        "aud": AUDIENCE,
        "sub": caller.name,
        "scope": caller.scope,
        "family": family.pk,
        "jti": uuid.uuid4().hex,
        "iat": now,
        "exp": now + lifetime,
    }
    return Tokens(jwt.encode(claims, _signing_key(), ALGORITHM), lifetime, refresh_token, family_lifetime)


def _signing_key() -> bytes:
    return salted_hmac("ingest.identity.tokens", "access", algorithm="sha256").digest()
