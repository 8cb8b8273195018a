"""Tokens of external issuers: verified with the keys of the issuer's JWKS, with the scopes of the site's settings.

While an issuer cannot be reached, its cached keys stay valid; a token signed with an unknown key is rejected.
"""

import functools
import time
from typing import Any

from ingest.identity import jwts
from ingest.identity.credential_owner import CredentialOwner
from ingest.identity.jwks import MAX_KEY_AGE, KeySet
from ingest.identity.keys import members_of
from ingest.identity.trusted_issuers import Issuer
from metrics.models import NAME_LENGTH
from rest.caller import Caller, Scope

LEEWAY = 10.0  # seconds that the clock of the issuer may differ
MAX_GROUPS = 500  # of one token
SCOPES_BY_RANK = (Scope.ADMIN, Scope.OPERATE, Scope.READ, Scope.INGEST)

key_set_at = functools.cache(KeySet)  # one per URL, for the lifetime of the process


def find_owner(token: str, issuer: Issuer) -> CredentialOwner | None:
    """Return the owner of a token, or None. May wait some seconds for the issuer's keys."""
    key = key_set_at(issuer.jwks_url).key(jwts.unverified_key_id(token))
    if key is None:
        return None
    claims = jwts.verify(token, key, issuer.algorithms, issuer.issuer, issuer.audience, LEEWAY)
    if claims is None or (scope := _scope(claims, issuer)) is None:
        return None
    name = f"{issuer.issuer}:{claims['sub']}"
    if not name.isprintable():
        return None
    groups = None if issuer.groups_claim is None else tuple(_names(claims.get(issuer.groups_claim)))
    expires = float(claims["exp"]) + LEEWAY
    caller = Caller(name[:NAME_LENGTH], scope, groups=groups, expires=expires, members=members_of(groups))
    # Verified again from time to time, since an issuer may revoke a key.
    return CredentialOwner(caller, min(expires, time.time() + MAX_KEY_AGE))


def _scope(claims: dict[str, Any], issuer: Issuer) -> str | None:
    allowed = {issuer.scopes.get(word) for word in _words(claims.get(issuer.scope_claim))}
    return next((scope for scope in SCOPES_BY_RANK if scope in allowed), None)


def _words(claim: Any) -> list[str]:
    return claim.split() if isinstance(claim, str) else _names(claim)


def _names(claim: Any) -> list[str]:
    names = claim if isinstance(claim, list) else []
    return [name for name in names[:MAX_GROUPS] if isinstance(name, str) and name.isprintable()]
