"""The site's own tokens: a short-lived access token that is signed, and a refresh token that renews it.

Both belong to a family, which began with a password or an API key and ends when it is revoked, when its person or
key may come no more, or when its time is over. An access token is checked against its family once; then it is
remembered until the revision moves, which every end of a family does.
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
from ingest.identity.credential_owner import Holder
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
PART_BYTES = 24  # random bytes in each half of a refresh token


@dataclass(frozen=True, slots=True)
class Tokens:
    """What whoever signs in is given. Times are seconds from now."""

    access_token: str
    expires_in: int
    refresh_token: str
    refresh_expires_in: int
    token_type: str = "bearer"  # noqa: S105 - its kind


def for_person(user: Any) -> Tokens:
    """The first tokens of a family, for a person whose password was right."""
    return _begin(user=user, stamp=user.get_session_auth_hash())


def for_key(key: ApiKey) -> Tokens:
    """The first tokens of a family, in exchange for an API key."""
    return _begin(key=key)


def _begin(**whose: Any) -> Tokens:
    first, second = secrets.token_urlsafe(PART_BYTES), secrets.token_urlsafe(PART_BYTES)
    ends = timezone.now() + timedelta(days=settings.REFRESH_TOKEN_DAYS)
    key = whose.get("key")
    if key is not None and key.expires_at is not None:
        ends = min(ends, key.expires_at)
    with transaction.atomic():
        family = TokenFamily.objects.create(digest=digest_of(first), newest=digest_of(second), expires_at=ends, **whose)
        record("signed in", family.whose)
    return _tokens(family, f"{PREFIX}{first}.{second}")


def refresh(refresh_token: str) -> Tokens | None:
    """New tokens for a refresh token, which is spent by that; None where it is not good.

    A spent one that comes again was stolen, or its successor was: then nobody of the family is believed any more.
    """
    first, _, second = refresh_token.removeprefix(PREFIX).partition(".")
    family = _family(digest=digest_of(first))
    if family is None or _caller(family) is None:
        return None
    new = secrets.token_urlsafe(PART_BYTES)
    # Of two who come with the same token at once, one finds it as it was.
    turned = TokenFamily.objects.filter(pk=family.pk, newest=digest_of(second), revoked_at=None)
    if not turned.update(newest=digest_of(new)):
        log.warning("a refresh token of family %s came twice: the family is revoked", family.pk)
        _revoke(family, "revoked tokens of which one came twice")
        return None
    return _tokens(family, f"{PREFIX}{first}.{new}")


def revoke(refresh_token: str) -> None:
    """End the family of this refresh token; one that is unknown changes nothing."""
    family = _family(digest=digest_of(refresh_token.removeprefix(PREFIX).partition(".")[0]))
    if family is not None and family.revoked_at is None:
        _revoke(family, "revoked tokens")


def holder(token: str) -> Holder | None:
    """Whose access token this is, as that person or key stands now."""
    claims = jwts.read(token, _signing_key(), [ALGORITHM], OWN_ISSUER, AUDIENCE) or {}
    number = claims.get("family")
    family = _family(pk=number) if isinstance(number, int) else None
    caller = None if family is None else _caller(family)
    # What a token says of its scope stays true: whoever has another scope by now asks for a new token.
    if family is None or caller is None or caller.scope != claims.get("scope"):
        return None
    expires = float(claims["exp"])
    return Holder(replace(caller, expires=min(caller.expires, expires)), expires, family.key_id)


def forget_expired() -> int:
    """Delete the families whose time is over. Returns how many were deleted."""
    return TokenFamily.objects.filter(expires_at__lt=timezone.now()).delete()[0]


def _family(**which: Any) -> TokenFamily | None:
    return TokenFamily.objects.filter(**which).select_related("user", "key__device", "key__group").first()


def _caller(family: TokenFamily) -> Caller | None:
    """Who a family speaks for; None where it is over, or its person or key may come no more."""
    if family.revoked_at is not None or family.expires_at <= timezone.now():
        return None
    if family.key is not None:
        found = keys.holder_of(family.key)
        return None if found is None else found.caller
    user: Any = family.user
    if not user.is_active or not secrets.compare_digest(family.stamp, user.get_session_auth_hash()):
        return None
    return Caller.of_user(user)


def _revoke(family: TokenFamily, why: str) -> None:
    with transaction.atomic():
        TokenFamily.objects.filter(pk=family.pk).update(revoked_at=timezone.now())
        record(why, family.whose)
        Revision.move()


def _tokens(family: TokenFamily, refresh_token: str) -> Tokens:
    now = int(time.time())
    caller = _caller(family)
    assert caller is not None
    left = int(family.expires_at.timestamp()) - now
    life = min(settings.ACCESS_TOKEN_SECONDS, left)
    claims = {
        "iss": OWN_ISSUER,
        "aud": AUDIENCE,
        "sub": caller.name,
        "scope": caller.scope,
        "family": family.pk,
        "jti": uuid.uuid4().hex,
        "iat": now,
        "exp": now + life,
    }
    return Tokens(jwt.encode(claims, _signing_key(), ALGORITHM), life, refresh_token, left)


def _signing_key() -> bytes:
    return salted_hmac("ingest.identity.tokens", "access", algorithm="sha256").digest()
