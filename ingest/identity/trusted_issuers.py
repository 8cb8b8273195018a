"""Whom the site believes besides itself, as the environment says it: outside issuers of tokens, and services.

Read by the settings, so nothing here knows Django. A wrong entry is refused at the start, with what is accepted.
"""

from typing import Literal
from urllib.parse import urlsplit

import msgspec

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
ScopeName = Literal["ingest", "read", "operate", "admin"]
OWN_ISSUER = "telemetry-site"  # the `iss` of the site's own tokens
SHORTEST_SECRET = 32  # characters
_THIS_MACHINE = {"localhost", "127.0.0.1", "::1"}


class Issuer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody whose tokens are taken: which ones, how they are checked, and what they allow here.

    `scopes` turns a word in `scope_claim` (words in one text, or a list) into a scope of this site; of several the
    greatest counts. `groups_claim` names the list of device groups that a token is for; without it, a token is for
    all devices.
    """

    issuer: str
    audience: str
    jwks_url: str
    algorithms: tuple[Algorithm, ...]  # asymmetric ones alone: a public key must never serve as a secret
    scopes: dict[str, ScopeName]
    scope_claim: str = "scope"
    groups_claim: str | None = None

    def __post_init__(self) -> None:
        if not (self.issuer and self.audience and self.algorithms and self.scopes and self.scope_claim):
            raise ValueError("issuer, audience, algorithms and scopes must not be empty")
        parts = urlsplit(self.jwks_url)
        safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _THIS_MACHINE)
        if not safe or not parts.hostname:
            raise ValueError("jwks_url is an https:// address, or an http:// one of this machine")


class Service(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A program that signs tokens of its own, with a secret that it shares with the site."""

    secret: str
    scope: ScopeName

    def __post_init__(self) -> None:
        if len(self.secret) < SHORTEST_SECRET:
            raise ValueError(f"a secret has at least {SHORTEST_SECRET} characters")


def issuers(text: str) -> tuple[Issuer, ...]:
    """TELEMETRY_JWT_ISSUERS. Raises ValueError."""
    read = msgspec.json.decode(text, type=tuple[Issuer, ...])
    names = [one.issuer for one in read]
    if len(set(names)) < len(names) or OWN_ISSUER in names:
        raise ValueError(f"each issuer is named once, and none is called {OWN_ISSUER}")
    return read


def services(text: str) -> dict[str, Service]:
    """TELEMETRY_SERVICE_SECRETS. Raises ValueError."""
    read = msgspec.json.decode(text, type=dict[str, Service])
    if "" in read or OWN_ISSUER in read:
        raise ValueError(f"a service has a name, and none is called {OWN_ISSUER}")
    return read
