"""JSON Web Tokens as they are read here: one pinned way, and everything that is not so is nothing."""

import binascii
from base64 import urlsafe_b64decode
from collections.abc import Sequence
from typing import Any

import jwt
import msgspec

LONGEST = 8192  # characters of a token
_REFUSED = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)


class _Claims(msgspec.Struct):
    iss: str = ""


def looks_like_one(credential: str) -> bool:
    """Whether this is a token and not an API key: it begins with what `{"` becomes, and has three parts."""
    return credential.startswith("ey") and credential.count(".") == 2


def named_issuer(token: str) -> str:
    """Who it says has signed it: to find the key by, and for nothing else."""
    payload = token.split(".")[1]
    try:
        return msgspec.json.decode(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=_Claims).iss
    except (binascii.Error, msgspec.DecodeError, ValueError, RecursionError):
        return ""


def named_key(token: str) -> str:
    """The `kid` in the head of a token."""
    try:
        return str(jwt.get_unverified_header(token).get("kid", ""))
    except _REFUSED:
        return ""


def read(
    token: str, key: Any, algorithms: Sequence[str], issuer: str, audience: str, leeway: float = 0.0
) -> dict[str, Any] | None:
    """The claims of a token that this key has signed, in one of these ways, for this audience, and for now.

    None for any other: whoever sent it learns no more than that. `exp` must be there, and what else the time says
    (`nbf`, `iat`) must hold, give or take `leeway` seconds.
    """
    try:
        return jwt.decode(
            token,
            key,
            algorithms=list(algorithms),
            issuer=issuer,
            audience=audience,
            leeway=leeway,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )
    except _REFUSED:
        return None
