"""Tokens of outside issuers: their signature by the keys that the issuer publishes, their rights by our settings.

While an issuer cannot be reached, its keys from before serve on; a token of a key that was never seen is refused.
"""

import functools
import time
from typing import Any

from ingest.identity import jwts
from ingest.identity.credential_owner import Holder
from ingest.identity.jwks import FRESH_FOR, KeySet
from ingest.identity.keys import members_of
from ingest.identity.trusted_issuers import Issuer
from metrics.models import NAME_LENGTH
from rest.caller import Caller, Scope

LEEWAY = 10.0  # seconds that the issuer's clock may differ
MOST_GROUPS = 500  # that one token may name
GREATEST_FIRST = (Scope.ADMIN, Scope.OPERATE, Scope.READ, Scope.INGEST)

keys_at = functools.cache(KeySet)  # one for each address, with its keys, for as long as the process lives


def holder(token: str, issuer: Issuer) -> Holder | None:
    """Whose token this is. May wait for the issuer's keys, seconds at most."""
    key = keys_at(issuer.jwks_url).key(jwts.named_key(token))
    if key is None:
        return None
    claims = jwts.read(token, key, issuer.algorithms, issuer.issuer, issuer.audience, LEEWAY)
    if claims is None or (scope := _scope(claims, issuer)) is None:
        return None
    name = f"{issuer.issuer}:{claims['sub']}"
    if not name.isprintable():
        return None
    groups = None if issuer.groups_claim is None else tuple(_names(claims.get(issuer.groups_claim)))
    expires = float(claims["exp"]) + LEEWAY
    caller = Caller(name[:NAME_LENGTH], scope, groups=groups, expires=expires, members=members_of(groups))
    # Looked at again from time to time, since an issuer may withdraw a key.
    return Holder(caller, min(expires, time.time() + FRESH_FOR))


def _scope(claims: dict[str, Any], issuer: Issuer) -> str | None:
    allowed = {issuer.scopes.get(word) for word in _words(claims.get(issuer.scope_claim))}
    return next((scope for scope in GREATEST_FIRST if scope in allowed), None)


def _words(claim: Any) -> list[str]:
    return claim.split() if isinstance(claim, str) else _names(claim)


def _names(claim: Any) -> list[str]:
    found = claim if isinstance(claim, list) else []
    return [name for name in found[:MOST_GROUPS] if isinstance(name, str) and name.isprintable()]
