"""Tokens by which services authenticate to each other.

A service signs a token for each request with the secret that it shares with the site: `iss` and `sub` are its name,
`aud` is `telemetry-service`, `jti` is new each time, and it expires within a minute. The settings define its scope.
"""

import hashlib
import time
import uuid
from datetime import UTC, datetime, timedelta

import jwt
from django.conf import settings
from django.db import connection
from django.utils import timezone

from ingest.identity import jwts
from ingest.identity.credential_owner import CredentialOwner
from ingest.identity.models import UsedServiceToken
from ingest.identity.trusted_issuers import Service
from rest.caller import Caller

ALGORITHM = "HS256"
AUDIENCE = "telemetry-service"
MAX_LIFETIME = 60  # seconds
LEEWAY = 5.0  # seconds that the clocks of two services may differ
# Used tokens are kept beyond their expiry, since the clocks of the processes differ.
RETENTION = timedelta(hours=1)

_INSERT_USED = "INSERT INTO ingest_usedservicetoken (digest, expires_at) VALUES (%s, %s) ON CONFLICT DO NOTHING"


def make(name: str, lifetime: int = MAX_LIFETIME) -> str:
    """Return a new token of this service, for one request."""
    now = int(time.time())
    claims = {"iss": name, "sub": name, "aud": AUDIENCE, "iat": now, "exp": now + lifetime, "jti": uuid.uuid4().hex}
    return jwt.encode(claims, _services()[name].secret, ALGORITHM)


def find_owner(token: str, name: str) -> CredentialOwner | None:
    """Return the service of a token; None if it is invalid or was used before, in any process."""
    service = _services()[name]
    claims = jwts.verify(token, service.secret, [ALGORITHM], name, AUDIENCE, LEEWAY)
    if claims is None or not claims.get("jti") or "iat" not in claims:
        return None
    expires = int(claims["exp"])
    if expires - int(claims["iat"]) > MAX_LIFETIME or not _mark_used(name, claims["jti"], expires):
        return None
    return CredentialOwner(Caller(f"service:{name}", service.scope, expires=float(expires)), until=0.0)


def delete_expired() -> int:
    """Delete the records of expired tokens; return the number of deleted rows."""
    return UsedServiceToken.objects.filter(expires_at__lt=timezone.now() - RETENTION).delete()[0]


def _mark_used(name: str, jti: str, expires: int) -> bool:
    digest = hashlib.sha256(f"{name}\0{jti}".encode()).digest()
    with connection.cursor() as cursor:
        cursor.execute(_INSERT_USED, (digest, datetime.fromtimestamp(expires, UTC)))
        return cursor.rowcount == 1


def _services() -> dict[str, Service]:
    return settings.SERVICES
