"""External token issuers and services that the site trusts, as configured in the environment.

The settings import this module, so it does not import Django. Invalid entries stop the start with an error.
"""

from typing import Literal
from urllib.parse import urlsplit

import msgspec

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
ScopeName = Literal["ingest", "read", "operate", "admin"]
OWN_ISSUER = "telemetry-site"  # the `iss` of the site's own tokens
MIN_SECRET_LENGTH = 32  # characters
_THIS_MACHINE = {"localhost", "127.0.0.1", "::1"}


class Issuer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An external issuer of tokens.

    `scopes` maps words of `scope_claim` (a text of words, or a list) to scopes of this site; the highest scope
    counts. `groups_claim` names the claim with the device groups of a token; without it, a token is for all devices.
    """

    issuer: str
    audience: str
    jwks_url: str
    algorithms: tuple[Algorithm, ...]  # only asymmetric ones: a public key must never be used as a secret
    scopes: dict[str, ScopeName]
    scope_claim: str = "scope"
    groups_claim: str | None = None

    def __post_init__(self) -> None:
        if not (self.issuer and self.audience and self.algorithms and self.scopes and self.scope_claim):
            raise ValueError("issuer, audience, algorithms and scopes must not be empty")
        parts = urlsplit(self.jwks_url)
        safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _THIS_MACHINE)
        if not safe or not parts.hostname:
            raise ValueError("jwks_url must be an https:// URL, or an http:// URL of this machine")


class Service(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A program that signs its own tokens with a secret that it shares with the site."""

    secret: str
    scope: ScopeName

    def __post_init__(self) -> None:
        if len(self.secret) < MIN_SECRET_LENGTH:
            raise ValueError(f"secret must have at least {MIN_SECRET_LENGTH} characters")


def parse_issuers(text: str) -> tuple[Issuer, ...]:
    """Parse TELEMETRY_JWT_ISSUERS. Raises ValueError."""
    issuers = msgspec.json.decode(text, type=tuple[Issuer, ...])
    names = [issuer.issuer for issuer in issuers]
    if len(set(names)) < len(names) or OWN_ISSUER in names:
        raise ValueError(f"issuer names must be unique and differ from {OWN_ISSUER}")
    return issuers


def parse_services(text: str) -> dict[str, Service]:
    """Parse TELEMETRY_SERVICE_SECRETS. Raises ValueError."""
    services = msgspec.json.decode(text, type=dict[str, Service])
    if "" in services or OWN_ISSUER in services:
        raise ValueError(f"service names must not be empty and differ from {OWN_ISSUER}")
    return services
