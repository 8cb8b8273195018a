"""Verification of JSON Web Tokens with pinned algorithms. An invalid token gives None, without a reason."""

import binascii
from base64 import urlsafe_b64decode
from collections.abc import Sequence
from typing import Any

import jwt
import msgspec

MAX_TOKEN_LENGTH = 8192  # characters of a token
_ERRORS = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)


class _Claims(msgspec.Struct):
    iss: str = ""


def is_jwt(credential: str) -> bool:
    """Return whether this is a token and not an API key: it begins with `{"` in base64 and has three parts."""
    return credential.startswith("ey") and credential.count(".") == 2


def unverified_issuer(token: str) -> str:
    """Return the issuer that a token claims, only to find the key that verifies it."""
    payload = token.split(".")[1]
    try:
        return msgspec.json.decode(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=_Claims).iss
    except (binascii.Error, msgspec.DecodeError, ValueError, RecursionError):
        return ""


def unverified_key_id(token: str) -> str:
    """Return the `kid` in the header of a token, only to find the key that verifies it."""
    try:
        return str(jwt.get_unverified_header(token).get("kid", ""))
    except _ERRORS:
        return ""


def verify(
    token: str, key: Any, algorithms: Sequence[str], issuer: str, audience: str, leeway: float = 0.0
) -> dict[str, Any] | None:
    """Return the claims of a token with a valid signature, issuer, audience and lifetime, otherwise None.

    `exp` is required; `exp`, `nbf` and `iat` are checked with `leeway` seconds.
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
    except _ERRORS:
        return None
